export { Bus } from './bus/index.js';
export { openBlock } from './drivers/blk.js';
export { BlockDevice } from './models/block-device.js';
export { probe } from './probe.js';
export { serve } from './serve.js';
