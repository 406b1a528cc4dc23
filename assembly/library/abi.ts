import { MODEL_ABI } from '../layout';

/** What a module says about the library that it was compiled with: to be exported by each. */
export const abi: u32 = MODEL_ABI;
