import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { RingbellError } from '../errors.js';
import { NBD_DEFAULT_PORT, NBD_MAX_STRING } from './protocol.js';

/** What an NBD URI says. */
export interface NbdAddress {
  /** As given, for messages. */
  uri: string;
  /** Where to connect to. */
  endpoint: { host: string; port: number } | { path: string };
  /** Name of the export; empty for the server's default one. */
  exportName: string;
  /** What to check the server's certificate by, and show of one's own; undefined for a connection without TLS. */
  tls: ConnectionOptions | undefined;
}

const SCHEMES = ['nbd:', 'nbds:', 'nbd+unix:', 'nbds+unix:'];
/** Query parameters of every URI of sockets in the file system, and of every one with TLS. */
const UNIX_PARAMETERS = ['socket'];
const TLS_PARAMETERS = ['tls-type', 'tls-hostname', 'tls-verify-peer', 'tls-certificates'];
/** Files of a folder of certificates, as libnbd, nbdkit and QEMU name them. */
const CA_FILE = 'ca-cert.pem';
const CLIENT_CERTIFICATE_FILE = 'client-cert.pem';
const CLIENT_KEY_FILE = 'client-key.pem';

/**
 * Reads an NBD URI (doc/uri.md of NetworkBlockDevice/nbd), and the certificates in a folder that it names. Throws
 * ERR_ARGUMENT, ERR_NOT_SUPPORTED for TLS other than by certificates.
 */
export function parseNbdUri(uri: string): NbdAddress {
  const refuse = (why: string) => new RingbellError('ERR_ARGUMENT', `${uri}: ${why}`);
  let url: URL;
  try {
    url = new URL(uri);
  } catch {
    throw refuse('not a URI such as nbd://host:port/export');
  }
  if (!SCHEMES.includes(url.protocol)) throw refuse(`an NBD URI begins with ${SCHEMES.join('//, ')}//`);
  if (url.hash !== '') throw refuse('an NBD URI has no fragment');
  const secure = url.protocol.startsWith('nbds');
  const unix = url.protocol.endsWith('+unix:');
  if (url.username !== '' || url.password !== '')
    throw new RingbellError('ERR_NOT_SUPPORTED', `${uri}: TLS by user names and shared keys is not known`);
  const known = [...(unix ? UNIX_PARAMETERS : []), ...(secure ? TLS_PARAMETERS : [])];
  const parameters = new Map<string, string>();
  for (const pair of url.search.slice(1).split('&').filter(Boolean)) {
    const [name = '', ...value] = pair.split('=');
    const key = decoded(name, refuse);
    if (!known.includes(key)) throw refuse(`there is no parameter '${key}' here`);
    if (parameters.has(key)) throw refuse(`${key} is there twice`);
    parameters.set(key, decoded(value.join('='), refuse));
  }
  const exportName = decoded(url.pathname.replace(/^\//, ''), refuse);
  if (exportName.includes('\0') || Buffer.byteLength(exportName) > NBD_MAX_STRING)
    throw refuse(`the name of an export has at most ${NBD_MAX_STRING} bytes, and no NUL`);
  let endpoint: NbdAddress['endpoint'];
  if (unix) {
    const path = parameters.get('socket');
    if (url.host !== '') throw refuse('a socket in the file system has no host: write nbd+unix:///');
    if (!path) throw refuse('the parameter socket is missing');
    if (path.includes('\0')) throw refuse('a socket is named by a path');
    endpoint = { path };
  } else {
    if (url.hostname === '') throw refuse('the host is missing');
    if (url.port === '0') throw refuse('0 is no port');
    const host = decoded(url.hostname, refuse).replace(/^\[(.*)\]$/, '$1');
    endpoint = { host, port: url.port === '' ? NBD_DEFAULT_PORT : Number(url.port) };
  }
  const tls = secure ? tlsOptions(uri, parameters, endpoint, refuse) : undefined;
  return { uri, endpoint, exportName, tls };
}

function tlsOptions(
  uri: string,
  parameters: ReadonlyMap<string, string>,
  endpoint: NbdAddress['endpoint'],
  refuse: (why: string) => RingbellError,
): ConnectionOptions {
  const type = parameters.get('tls-type') ?? 'x509';
  if (type !== 'x509')
    throw new RingbellError('ERR_NOT_SUPPORTED', `${uri}: tls-type ${type}: only x509 is known`);
  const verify = parameters.get('tls-verify-peer') ?? '1';
  if (verify !== '0' && verify !== '1') throw refuse('tls-verify-peer must be 0 or 1');
  const host = parameters.get('tls-hostname') ?? ('host' in endpoint ? endpoint.host : undefined);
  if (host === undefined && verify === '1')
    throw refuse('a socket in the file system has no name: give tls-hostname, or tls-verify-peer=0');
  const folder = parameters.get('tls-certificates');
  const read = (name: string, needed: boolean) => {
    try {
      return readFileSync(join(folder!, name));
    } catch (error) {
      if (!needed && (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new RingbellError('ERR_ARGUMENT', `${uri}: ${(error as Error).message}`, { cause: error });
    }
  };
  const cert = folder === undefined ? undefined : read(CLIENT_CERTIFICATE_FILE, false);
  return {
    rejectUnauthorized: verify === '1',
    // What the certificate is checked against; undefined only where it is not.
    ...(host !== undefined && { host, ...(!isIP(host) && { servername: host }) }),
    ...(folder !== undefined && { ca: read(CA_FILE, true) }),
    ...(cert && { cert, key: read(CLIENT_KEY_FILE, true) }),
  };
}

/** Undoes percent-encoding only: a plus is a plus. */
function decoded(text: string, refuse: (why: string) => RingbellError): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse(`'${text}' is not percent-encoded UTF-8`);
  }
}
