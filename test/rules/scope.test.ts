import { expect, test } from 'vitest';
import { inScope, type Node, type RuleScope } from '../../src/rules/spec.ts';

const node: Node = { site: 'fra1', roles: ['edge', 'dns'], name: 'host7', interface: 'eth1' };

test.each<[RuleScope, boolean]>([
  [{}, true],
  [{ sites: ['ams1', 'fra1'] }, true],
  [{ sites: ['ams1'] }, false],
  [{ roles: ['dns'] }, true],
  [{ roles: ['core'] }, false],
  [{ nodes: ['host7'] }, true],
  [{ nodes: ['host8'] }, false],
  [{ interfaces: ['eth1'] }, true],
  [{ interfaces: ['eth0'] }, false],
  [{ sites: ['fra1'], roles: ['core'] }, false],
  [{ sites: ['fra1'], roles: ['edge'], nodes: ['host7'], interfaces: ['eth1'] }, true],
])('a scope holds where each of its kinds names the node: %j', (scope, holds) => {
  expect(inScope(scope, node)).toBe(holds);
});

test('a node that does not say what it is is out of scopes about that', () => {
  const nobody: Node = { name: 'host7', interface: 'eth1', roles: [] };
  expect(inScope({ sites: ['fra1'] }, nobody)).toBe(false);
  expect(inScope({ roles: ['edge'] }, nobody)).toBe(false);
  expect(inScope({ nodes: ['host7'] }, nobody)).toBe(true);
});
