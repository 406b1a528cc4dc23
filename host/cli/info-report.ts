import type { ManagementDevice, VdpaDevice } from '../index.js';
import { featureNames } from '../uapi/names.js';
import { VIRTIO_BLK_SECTOR_SIZE, VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_NET } from '../uapi/virtio.js';
import type { DeviceInfo, QueueInfo } from './device-info.js';
import { type Column, styled, tableLines } from './terminal.js';
import { formatBytes } from './units.js';

/** Names of the kinds of devices, as iproute2 has them. */
const KINDS: ReadonlyMap<number, string> = new Map([
  [VIRTIO_ID_NET, 'net'],
  [VIRTIO_ID_BLOCK, 'block'],
  [VIRTIO_ID_FS, 'fs'],
]);
const LABEL_WIDTH = 'negotiated'.length;
/** Characters of a line that lists names. */
const LINE_WIDTH = 100;

const DEVICE_COLUMNS: readonly Column[] = [
  { title: 'device', align: 'left' },
  { title: 'kind', align: 'left' },
  { title: 'of', align: 'left' },
  { title: 'driver', align: 'left' },
  { title: 'node', align: 'left' },
  { title: 'queues', align: 'right' },
  { title: 'of size', align: 'right' },
];
const SOURCE_COLUMNS: readonly Column[] = [
  { title: 'management device', align: 'left' },
  { title: 'makes', align: 'left' },
  { title: 'queues', align: 'right' },
  { title: 'features', align: 'left' },
];
const QUEUE_COLUMNS: readonly Column[] = [
  { title: 'queue', align: 'right' },
  { title: 'size', align: 'right' },
  { title: 'group', align: 'right' },
  { title: 'doorbell', align: 'left' },
];

/** The bus for people: its devices, and where new ones can come from. */
export function listLines(sources: readonly ManagementDevice[], devices: readonly VdpaDevice[]): string[] {
  const [title, ...rows] = tableLines(
    DEVICE_COLUMNS,
    devices.map((device) => [
      ...[device.name, kindOf(device.deviceId), device.managementDevice],
      ...[device.driver ?? '–', device.node ?? '–', `${device.queues}`, `${device.queueSize}`],
    ]),
  );
  const [sourceTitle, ...sourceRows] = tableLines(
    SOURCE_COLUMNS,
    sources.map(({ name, deviceIds, queues, features }) => [
      ...[name, deviceIds.map(kindOf).join(', '), queues === 0 ? '–' : `${queues}`],
      featureNames(deviceIds.length === 1 ? deviceIds[0]! : 0, features)
        .map(shortName)
        .join(' ') || '–',
    ]),
  );
  return [
    ...(devices.length > 0 ? [bold(title!), ...rows] : ['no device on the bus']),
    '',
    ...(sources.length > 0 ? [bold(sourceTitle!), ...sourceRows] : ['no management device: load vduse']),
  ];
}

/** A device for people. */
export function deviceLines(device: DeviceInfo): string[] {
  const { name, node, driver, managementDevice, deviceId, vendorId, queueCount, queueSize } = device;
  const lines = [
    `${bold(name ?? node!)}  ${kindOf(deviceId)} device${managementDevice === null ? '' : ` of ${managementDevice}`}${vendorId === null ? '' : `, vendor 0x${vendorId.toString(16)}`}`,
    ...row('driver', driver === null ? 'none' : `${driver}${node === null ? '' : `: ${node}`}`),
  ];
  if (device.status !== null)
    lines.push(...row('status', device.status.length === 0 ? 'reset' : device.status.join(' ')));
  lines.push(...names('features', device.features), ...names('negotiated', device.negotiatedFeatures));
  lines.push(...names('backend', device.backendFeatures));
  for (const [index, [field, value]] of Object.entries(device.config).entries())
    lines.push(...row(index === 0 ? 'config' : '', `${field} ${describeField(field, value)}`));
  if (device.iovaRange !== null) {
    const { first, last } = device.iovaRange;
    lines.push(...row('IOVAs', `0x${first.toString(16)} to 0x${last.toString(16)}`));
  }
  if (device.groups !== null)
    lines.push(
      ...row(
        'groups',
        `${device.groups} of queues, ${device.addressSpaces} address space${device.addressSpaces === 1 ? '' : 's'}`,
      ),
    );
  if (device.queues === null) lines.push(...row('queues', `${queueCount} of at most ${queueSize} entries`));
  else lines.push('', ...queueLines(device.queues));
  if (device.queues === null && driver === 'vhost_vdpa' && node !== null)
    lines.push('', `ringbell info ${node} tells more, and resets the device`);
  return lines;
}

function queueLines(queues: readonly QueueInfo[]): string[] {
  const [title, ...rows] = tableLines(
    QUEUE_COLUMNS,
    queues.map(({ size, group, doorbell, doorbellRefusal }, index) => [
      ...[`${index}`, `${size}`, group === null ? '–' : `${group}`],
      doorbellRefusal === null ? doorbell : `${doorbell} (no page: ${doorbellRefusal})`,
    ]),
  );
  return [bold(title!), ...rows];
}

function kindOf(deviceId: number): string {
  return KINDS.get(deviceId) ?? `type ${deviceId}`;
}

/** 'VIRTIO_BLK_F_FLUSH' is FLUSH, 'VHOST_BACKEND_F_SUSPEND' SUSPEND. */
function shortName(feature: string): string {
  return feature.replace(/^\w+_F_/, '');
}

/** A list of names over as many lines as it takes. */
function names(label: string, features: readonly string[] | null): string[] {
  if (features === null) return [];
  const lines: string[] = [];
  let line = '';
  for (const name of features.map(shortName)) {
    if (line !== '' && line.length + 1 + name.length > LINE_WIDTH) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? name : ` ${name}`;
  }
  return [...lines, line || 'none'].flatMap((text, index) => row(index === 0 ? label : '', text));
}

function describeField(field: string, value: number | bigint | string): string {
  if (field !== 'capacity') return `${value}`;
  return `${value} (${formatBytes(Number(value) * VIRTIO_BLK_SECTOR_SIZE)})`;
}

function row(label: string, text: string): string[] {
  return [`  ${label.padEnd(LABEL_WIDTH)}  ${text}`];
}

function bold(text: string): string {
  return styled(process.stdout, 'bold', text);
}
