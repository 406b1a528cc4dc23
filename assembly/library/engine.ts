// The engine's own exports, which a model's module imports: V8 links them as calls from WebAssembly to WebAssembly.
// host/models/module-types.ts refuses every other import.

@external("engine", "copy")
export declare function copy(to: usize, from: usize, bytes: usize): void;
@external("engine", "deviceBreak")
export declare function deviceBreak(vq: usize, verdict: u32, head: u32): void;
@external("engine", "devicePop")
export declare function devicePop(vq: usize, max: u32): u32;
@external("engine", "devicePush")
export declare function devicePush(vq: usize, count: u32): u32;
@external("engine", "deviceReturn")
export declare function deviceReturn(vq: usize, first: u32, end: u32): void;
@external("engine", "dirtyMark")
export declare function dirtyMark(iotlb: usize, linear: usize, bytes: u32): void;
