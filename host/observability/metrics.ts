import type { LatencySnapshot } from '../queue/latency-recorder.js';
import {
  DEVICE_METRICS,
  LATENCY_BOUNDS,
  LATENCY_METRIC,
  type MetricFamily,
  QUEUE_METRICS,
} from './metric-families.js';
import { openDevices } from './open-devices.js';
import type { DeviceSnapshot, Observable } from './snapshot.js';

const NS_PER_SECOND = 1e9;

/** The Content-Type under which `metrics` is to be served. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * Counters and gauges of `devices`, or of all that this thread serves and drives, in Prometheus' text format 0.0.4: each with
 * the labels `device` and `side`, those of queues with `queue`, too. Two devices of one name and side are told apart as NAME
 * and NAME#2. Stops nothing. Throws what a snapshot throws, which those of ours never do.
 */
export function metrics(devices: Iterable<Observable> = openDevices()): string {
  const labelled = label([...devices].map((device) => device.snapshot()));
  return [
    ...QUEUE_METRICS.map((metric) =>
      family(
        metric,
        labelled.flatMap(({ labels, device }) =>
          device.queues.map((queue) => ({
            labels: `${labels},queue="${queue.queue}"`,
            value: metric.value(queue),
          })),
        ),
      ),
    ),
    histogram(
      labelled.flatMap(({ labels, device }) =>
        device.queues.flatMap(({ queue, latency }) =>
          latency === undefined ? [] : [{ labels: `${labels},queue="${queue}"`, latency }],
        ),
      ),
    ),
    ...DEVICE_METRICS.map((metric) =>
      family(
        metric,
        labelled.map(({ labels, device }) => ({ labels, value: metric.value(device) })),
      ),
    ),
  ].join('');
}

/** Gives each device labels that no other has: of two equal ones a scraper would refuse everything. */
function label(devices: readonly DeviceSnapshot[]): { labels: string; device: DeviceSnapshot }[] {
  const seen = new Set<string>();
  return devices.map((device) => {
    const { name, side } = device;
    let labels: string;
    for (let nth = 1; ; nth++) {
      labels = `device="${escaped(nth === 1 ? name : `${name}#${nth}`)}",side="${side}"`;
      if (!seen.has(labels)) break;
    }
    seen.add(labels);
    return { labels, device };
  });
}

function family(
  metric: MetricFamily,
  samples: readonly { labels: string; value: number | undefined }[],
): string {
  const lines = samples
    .filter(({ value }) => value !== undefined)
    .map(({ labels, value }) => `${metric.name}{${labels}} ${value}\n`);
  return headed(metric, lines);
}

/** Cumulative, as the format has it: each bucket counts what is at most its bound. */
function histogram(samples: readonly { labels: string; latency: LatencySnapshot }[]): string {
  const { name } = LATENCY_METRIC;
  const lines = samples.flatMap(({ labels, latency }) => {
    const atMost = (bound: number) =>
      latency.buckets.reduce((sum, [top, count]) => (top <= bound ? sum + count : sum), 0);
    return [
      ...LATENCY_BOUNDS.map((ns) => `${name}_bucket{${labels},le="${ns / NS_PER_SECOND}"} ${atMost(ns)}\n`),
      `${name}_bucket{${labels},le="+Inf"} ${latency.samples}\n`,
      `${name}_sum{${labels}} ${latency.sum / NS_PER_SECOND}\n`,
      `${name}_count{${labels}} ${latency.samples}\n`,
    ];
  });
  return headed(LATENCY_METRIC, lines);
}

/** A family's lines behind those that describe it; none where nobody has a value. */
function headed({ name, help, type }: MetricFamily, lines: readonly string[]): string {
  return lines.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
}

/** A label's value: a device's name may have any character but a slash and NUL. */
function escaped(text: string): string {
  return text.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}
