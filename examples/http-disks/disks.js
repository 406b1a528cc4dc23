import { BlockDevice, serve } from 'ringbell';

/** Disks that are being served, by name. */
const disks = new Map();

/** The kernel's bus, as root: TRANSPORT=vduse npm start. */
const transport = process.env.TRANSPORT ?? 'bus';

export const listDisks = () => [...disks.keys()].map(describe);

export async function createDisk(name, bytes) {
  const model = new BlockDevice({ memory: bytes });
  disks.set(name, { model, device: await serve(model, { name, transport }) });
  return describe(name);
}

export async function resizeDisk(name, bytes) {
  await find(name).device.resize(bytes);
  return describe(name);
}

export async function deleteDisk(name) {
  const description = describe(name);
  const { device } = find(name);
  disks.delete(name);
  await device.close();
  return description;
}

function describe(name) {
  const { model, device } = find(name);
  const { requests, bytesRead, bytesWritten } = device.stats();
  return { name, bytes: model.capacity, requests, bytesRead, bytesWritten };
}

function find(name) {
  const disk = disks.get(name);
  if (!disk) throw Object.assign(new Error(`there is no disk ${name}`), { status: 404 });
  return disk;
}
