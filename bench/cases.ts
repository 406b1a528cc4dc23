import { bounceCases } from './bounce/cases.js';
import type { Case } from './case.js';
import { copyCases } from './copy/cases.js';
import { dirtyCases } from './dirty/cases.js';
import { doorbellCases } from './doorbell/cases.js';
import { iotlbCases } from './iotlb/cases.js';
import { modelCases } from './model/cases.js';
import { neighbourCases } from './model/neighbour.js';
import { observabilityCases } from './observability/cases.js';
import { ringCases } from './ring/cases.js';
import { roundTripCases } from './round-trip/cases.js';

/** Every benchmark, in the order of the report. */
export const cases: readonly Case[] = [
  ...ringCases,
  ...copyCases,
  ...modelCases,
  ...neighbourCases,
  ...roundTripCases,
  ...doorbellCases,
  ...bounceCases,
  ...iotlbCases,
  ...dirtyCases,
  ...observabilityCases,
];
