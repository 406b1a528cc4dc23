/** What VDUSE_CREATE_DEV creates. */
export interface VdpaDeviceConfig {
  name: string;
  apiVersion: number;
  /** VDUSE_F_* that the creator opted in to, as a mask. */
  vduseFeatures: bigint;
  vendorId: number;
  deviceId: number;
  features: bigint;
  vqNum: number;
  ngroups: number;
  nas: number;
  config: Uint8Array;
  /** Bytes of a page of the host. */
  pageSize: number;
}
