{
  'targets': [
    {
      'target_name': 'reference',
      'sources': ['addon.cc', 'block.cc', 'driver.cc', 'packed-driver.cc', 'translator.cc'],
      # build/constants.h is written from assembly/layout.ts and assembly/virtio.ts by bench/build.ts.
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")', 'build'],
      'defines': ['NAPI_VERSION=8', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
      'cflags!': ['-O3'],
      # The fastest of the usual options: -O3, -march=x86-64-v2 and -v3 are no better, vectors of two segments worse.
      # Owner words of packed descriptors are read and written as one, whatever their fields are.
      'cflags': ['-O2', '-fno-tree-slp-vectorize', '-fno-strict-aliasing'],
      'cflags_cc!': ['-std=gnu++17'],
      'cflags_cc': ['-std=c++20', '-Wall', '-Wextra', '-Wno-unused-parameter'],
    }
  ]
}
