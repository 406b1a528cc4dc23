import { isSystemError } from '../errors.js';
import type { Decoded, Initializer } from '../uapi/struct.js';
import {
  VDUSE_REQ_RESULT_FAILED,
  VDUSE_REQ_RESULT_OK,
  type vduseDevRequest,
  vduseDevResponse,
} from '../uapi/vduse.js';
import type { VduseFile } from './file.js';

/** A message of the transport: struct vduse_dev_request. */
export type Message = Decoded<typeof vduseDevRequest>;

/** How a message is answered: OK, unless the response says otherwise. */
export interface Answer {
  /** Members of struct vduse_dev_response. */
  response?: Initializer<(typeof vduseDevResponse)['fields']>;
  /** What has to wait until the transport has the answer. */
  after?: () => Promise<void>;
}

/** Done, and nothing else to say. */
export const DONE: Answer = {};
/** Refused, or not possible. */
export const FAILED: Answer = { response: { result: VDUSE_REQ_RESULT_FAILED } };

/** Gives the transport the answer to `message`, and does afterwards what has to be done then. */
export async function give(answer: Answer, { request_id }: Message, file: VduseFile): Promise<void> {
  const response = { request_id, result: VDUSE_REQ_RESULT_OK, ...answer.response };
  try {
    await file.write(vduseDevResponse.encode(response));
  } catch (error) {
    // ENOENT: whoever asked has given up waiting. The rest shows at the next read.
    if (!isSystemError(error)) throw error;
  }
  await answer.after?.();
}
