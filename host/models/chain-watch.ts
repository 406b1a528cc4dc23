import type { Chain } from './chain.js';

/** Stands between a model and its queues: sees each chain that the model gets, and decides when and how it goes back. */
export interface ChainWatch {
  /** The model is about to get a chain. */
  taken(chain: Chain): void;
  /** The model has ended a chain, which goes back to the driver when `give` is called: once, now or later. */
  ended(chain: Chain, give: () => void): void;
}
