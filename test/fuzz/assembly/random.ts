// Random numbers without state that somebody would have to keep: Vigna's splitmix64, whose state moves by a constant.

/** The number that `state` gives. */
// @ts-ignore: decorator
@inline
export function mix(state: u64): u64 {
  let z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/** The state behind `state`. */
// @ts-ignore: decorator
@inline
export function step(state: u64): u64 {
  return state + 0x9e3779b97f4a7c15;
}

/** The state at which number `index` of the sequence of `seed` begins: each can be made without those before it. */
// @ts-ignore: decorator
@inline
export function begin(seed: u64, index: u32): u64 {
  return mix(seed + mix(step(<u64>index)));
}
