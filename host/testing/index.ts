/** `ringbell/testing`: what device models and drivers are tested with. docs/testing.md describes it. */

export { type ModelContractOptions, modelContract } from './contract.js';
export type { ContractRequest } from './contract-scene.js';
export type { FaultKind, FaultRates, Faults, FaultyOptions } from './faults.js';
export { FaultyModel, faulty } from './faulty.js';
export { MISBEHAVIOURS, type Misbehaviour, type MisbehaviourScript } from './misbehaviour.js';
export { MockDriver, type MockDriverOptions, type MockStartOptions } from './mock-driver.js';
export type { MockMemory } from './mock-memory.js';
export type { MockAnswer, MockQueue, MockRequest } from './mock-queue.js';
export type { MockDescriptor, MockRing, UsedElement } from './mock-ring.js';
