import { SluiceError } from '../base/errors.ts';
import { type BpfObject, loadObject, type ObjectOptions } from '../kernel/index.ts';

/** Whether the kernel has bpf_cast_to_kern_ctx (Linux 6.2), once it is known. */
let kernelContext: boolean | undefined;

/**
 * Loads an object of bpf/gate.bpf.c. Newer kernels let it read the length of a frame without a call: tried first, and left
 * out where that fails. Throws as loadObject.
 */
export function loadGate(path: string, options: ObjectOptions): BpfObject {
  if (kernelContext !== false) {
    try {
      const constants = { ...options.constants, cfg_kernel_context: 1 };
      const object = loadObject(path, { ...options, constants });
      kernelContext = true;
      return object;
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
    }
  }
  // What is wrong for another reason is wrong again.
  const object = loadObject(path, options);
  kernelContext ??= false;
  return object;
}
