/**
 * `ringbell/assembly`: what a device model in AssemblyScript is compiled with. docs/device-models.md shows one. The
 * constants of the virtio specification are in `ringbell/assembly/virtio`.
 */
export { abi } from './assembly/library/abi';
export { Chain } from './assembly/library/chain';
export { Queue } from './assembly/library/queue';
export { serveQueue } from './assembly/library/serve';
