import { describe, expect, it } from 'vitest';
import { validateCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText, FilterError } from '../../src/filter/index.ts';

describe('QUIC', () => {
  it.each([
    'quic initial',
    'quic long',
    'quic',
    'initial version 2',
    '0rtt or handshake and port 443',
    'negotiation',
    'long version 0xfaceb002',
    'retry version draft-29',
  ])('%s is a valid program', (text) => validateCbpf(compileFilterText(text, 'quic')));

  it.each<[string, string, string]>([
    ['', 'what of QUIC is missing', ''],
    ['quic initia', 'no word of this language', 'initia'],
    ['quic initial handshake', 'a second type', 'handshake'],
    ['initial or', 'a term is missing', ''],
    ['or initial', 'a term is missing', 'or'],
    ['initial version', 'the version is missing', ''],
    ['initial version 7', 'not a version of QUIC', '7'],
    ['initial version 0x0', 'not a version of QUIC', '0x0'],
    ['initial port 70000', 'a port is a number up to 65535', '70000'],
    ['negotiation version 1', 'no version of its own', 'negotiation version 1'],
  ])('%j: %s', (text, message, at) => {
    let error: unknown;
    try {
      compileFilterText(text, 'quic');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(FilterError);
    if (!(error instanceof FilterError)) return;
    expect(error.message).toContain(message);
    expect(text.slice(error.span.start, error.span.end)).toBe(at);
  });
});
