/** The entropy device as a module that queue threads load. */
export { EntropyDevice as default } from '../../host/models/entropy/entropy-device.js';
