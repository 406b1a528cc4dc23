/** What an archive says of one version of a package. */
export interface Stanza {
  package: string;
  version: string;
  depends: string;
}

/** The packages that one kernel is made of, each at one version in apt's notation: `NAME=VERSION`. */
export interface KernelPackages {
  /** What `uname -r` will print. */
  release: string;
  /** Those with vmlinuz and the modules. */
  image: string[];
  /** Those that further modules are built with; undefined if the archive lacks one. */
  build: string[] | undefined;
}

/** Suffix of the packages for any machine: without it a name is that of a flavour, of debug symbols or of a signing template. */
const FLAVOUR = '-amd64';

/** Packages that depend on the newest kernel of a series, or on the newest of all. */
export const metaPackages = (series: string) => [`linux-image-${series}${FLAVOUR}`, `linux-image${FLAVOUR}`];

/** Whether a package is, by its name, a part of a kernel of a series or needed to build modules for one. */
export function belongsToSeries(name: string, series: string): boolean {
  return (
    metaPackages(series).includes(name) || new RegExp(`^linux-.*-${verbatim(series)}([.+-]|$)`).test(name)
  );
}

/**
 * The newest kernel of a series among all the packages that `belongsToSeries`: one that a meta package names, else, for
 * a series so new or so old that none does, the newest whose parts are all there. Undefined if there is none.
 *
 * Of several, one of Debian `debian` (its major version) comes first: only there are the tools for building modules sure to
 * find the C library that they want.
 */
export function resolveKernel(
  series: string,
  stanzas: readonly Stanza[],
  debian: string,
): KernelPackages | undefined {
  const ofSeries = (release: string) => new RegExp(`^${verbatim(series)}(\\.\\d+)*[+-]`).test(release);
  const metas = stanzas.filter((stanza) => metaPackages(series).includes(stanza.package));
  const named = metas.flatMap(({ depends }) =>
    [...depends.matchAll(/\blinux-image-(\d\S*)/g)].map(([, release]) => release!),
  );
  const listed = stanzas.flatMap(({ package: name }) => {
    const release = /^linux-(?:image|binary|binary-unsigned)-(\d+\.\S*)$/.exec(name)?.[1];
    return release && /^[\d.]+[^-]*-amd64$/.test(release) ? [release] : [];
  });
  for (const releases of [named, listed])
    for (const release of [...new Set(releases)].filter(ofSeries).sort(homeFirst(debian))) {
      const packages = partsOf(release, series, stanzas);
      if (packages) return packages;
    }
  return undefined;
}

/** The packages of a release: all in one, or the kernel, its modules and what is common to both each in their own. */
function partsOf(release: string, series: string, stanzas: readonly Stanza[]): KernelPackages | undefined {
  const newest = (name: string) => {
    const versions = stanzas.filter((stanza) => stanza.package === name).map(({ version }) => version);
    const version = versions.sort(newestFirst)[0];
    return version === undefined ? undefined : `${name}=${version}`;
  };
  const modules = newest(`linux-modules-${release}`);
  const binary = newest(`linux-binary-${release}`) ?? newest(`linux-binary-unsigned-${release}`);
  const image = modules
    ? [newest(`linux-base-${release}`), binary, modules]
    : [newest(`linux-image-${release}`)];
  if (!image.every((part) => part !== undefined)) return undefined;
  const base = release.slice(0, -FLAVOUR.length);
  // All are built from one source package and share its version: the sources of another point release would not fit.
  const version = newest(`linux-headers-${release}`)?.split('=')[1];
  const build = [
    `linux-headers-${release}`,
    `linux-headers-${base}-common`,
    `linux-kbuild-${base}`,
    `linux-source-${series}`,
  ].map((name) => stanzas.find((stanza) => stanza.package === name && stanza.version === version));
  if (!build.every((part) => part !== undefined)) return { release, image, build: undefined };
  return { release, image, build: build.map((part) => `${part.package}=${part.version}`) };
}

/** Orders Debian versions by their numbers, from the newest down. */
const newestFirst = (a: string, b: string) => b.localeCompare(a, 'en', { numeric: true });

/** The same, with releases of one Debian in front of all others. */
const homeFirst = (debian: string) => (a: string, b: string) => {
  const isHome = (release: string) => Number(release.includes(`+deb${debian}-`));
  return isHome(b) - isHome(a) || newestFirst(a, b);
};

/** A pattern that matches a text. */
const verbatim = (text: string) => text.replace(/[.+]/g, '\\$&');
