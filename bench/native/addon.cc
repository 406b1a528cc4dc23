// What engine.wasm is measured against, and the driver that feeds every side, as a Node addon.

#include <napi.h>

#include <chrono>
#include <cstring>
#include <memory>

#include "block.h"
#include "device.h"
#include "driver.h"
#include "packed-driver.h"

namespace ringbell::bench {

namespace {

using Clock = std::chrono::steady_clock;

/** What every side of a benchmark does with a chain: the least that cannot be optimised away. */
struct Digest {
  /** Adds what a segment is to the sum. */
  void add(const Segment& segment) { sum += segment.linear ^ segment.bytes; }

  uint32_t sum = 0;
  /** Bytes that every side reports as written. */
  uint32_t used_length = 1;
  uint32_t operator()(const Chain& chain) {
    for (const Segment& segment : chain.segments) add(segment);
    return used_length;
  }
};

/** The same, and a copy of each segment's bytes to one place. */
struct CopyingDigest : Digest {
  CopyingDigest(const Digest& digest, std::byte* memory, std::byte* to)
      : Digest(digest), memory_(memory), to_(to) {}
  uint32_t operator()(const Chain& chain) {
    for (const Segment& segment : chain.segments) {
      add(segment);
      std::memcpy(to_, memory_ + segment.linear, segment.bytes);
    }
    return used_length;
  }

 private:
  std::byte* memory_;
  std::byte* to_;
};

uint32_t number(const Napi::Object& object, const char* name) {
  return object.Get(name).As<Napi::Number>().Uint32Value();
}

uint64_t big_number(const Napi::Object& object, const char* name) {
  bool lossless;
  return object.Get(name).As<Napi::BigInt>().Uint64Value(&lossless);
}

Virtqueue read_queue(std::byte* memory, const Napi::Object& config) {
  Virtqueue queue;
  queue.size = number(config, "size");
  queue.table = reinterpret_cast<Descriptor*>(memory + number(config, "table"));
  queue.avail = memory + number(config, "avail");
  queue.used = memory + number(config, "used");
  queue.indirect = number(config, "flags") & VQ_F_INDIRECT_DESC;
  queue.event_idx = number(config, "flags") & VQ_F_EVENT_IDX;
  return queue;
}

std::vector<Region> read_regions(const Napi::Object& config) {
  std::vector<Region> regions;
  const auto list = config.Get("regions").As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const auto region = list.Get(i).As<Napi::Object>();
    regions.push_back({big_number(region, "iova"), big_number(region, "bytes"), number(region, "linear"),
                       ~number(region, "access") & (IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE)});
  }
  return regions;
}

/** A driver and a C++ device on one ring in shared memory, and a clock; the driver also serves devices that
 * are not C++. */
template <typename Self, typename RingDevice, typename RingDriver>
class TimedRing : public Napi::ObjectWrap<Self> {
 public:
  explicit TimedRing(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {}

 protected:
  using Method = Napi::Value (Self::*)(const Napi::CallbackInfo&);

  static std::vector<typename Napi::ObjectWrap<Self>::PropertyDescriptor> methods() {
    using Wrap = Napi::ObjectWrap<Self>;
    return {
        Wrap::InstanceMethod("fill", static_cast<Method>(&TimedRing::Fill)),
        Wrap::InstanceMethod("drain", static_cast<Method>(&TimedRing::Drain)),
        Wrap::InstanceMethod("reap", static_cast<Method>(&TimedRing::Reap)),
        Wrap::InstanceMethod("takeElapsed", static_cast<Method>(&TimedRing::TakeElapsed)),
        Wrap::InstanceMethod("takeDigest", static_cast<Method>(&TimedRing::TakeDigest)),
        Wrap::InstanceAccessor("slots", static_cast<Method>(&TimedRing::Slots), nullptr),
        Wrap::InstanceAccessor("verdict", static_cast<Method>(&TimedRing::Verdict), nullptr),
    };
  }

  std::unique_ptr<RingDevice> device_;
  std::unique_ptr<RingDriver> driver_;
  Digest digest_;
  std::byte* memory_ = nullptr;
  /** Where each segment is copied to, if anywhere. */
  std::byte* copy_to_ = nullptr;

 private:
  Napi::Value Fill(const Napi::CallbackInfo& info) {
    const uint32_t filled = driver_->fill(info[0].As<Napi::Number>().Uint32Value());
    started_ = Clock::now();
    return Napi::Number::New(info.Env(), filled);
  }

  Napi::Value Drain(const Napi::CallbackInfo& info) {
    const uint32_t burst = info[0].As<Napi::Number>().Uint32Value();
    const uint32_t served =
        copy_to_ ? Serve(burst, CopyingDigest(digest_, memory_, copy_to_)) : Serve(burst, digest_);
    return Napi::Number::New(info.Env(), served);
  }

  template <typename Handler>
  uint32_t Serve(uint32_t burst, Handler digest) {
    uint32_t served = 0;
    while (const uint32_t count = device_->serve(burst, digest)) served += count;
    digest_ = digest;
    return served;
  }

  Napi::Value Reap(const Napi::CallbackInfo& info) {
    elapsed_ += Clock::now() - started_;
    return Napi::Number::New(info.Env(), driver_->reap());
  }

  Napi::Value Slots(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), driver_->slots());
  }

  Napi::Value TakeElapsed(const Napi::CallbackInfo& info) {
    const auto nanoseconds = std::chrono::duration<double, std::nano>(elapsed_).count();
    elapsed_ = Clock::duration::zero();
    return Napi::Number::New(info.Env(), nanoseconds);
  }

  Napi::Value TakeDigest(const Napi::CallbackInfo& info) {
    const uint32_t sum = digest_.sum;
    digest_.sum = 0;
    return Napi::Number::New(info.Env(), sum);
  }

  Napi::Value Verdict(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), device_->verdict());
  }

  Clock::time_point started_;
  Clock::duration elapsed_ = Clock::duration::zero();
};

/** The IOVAs of the driver's buffers. */
std::vector<uint64_t> read_buffers(const Napi::Object& config) {
  const auto buffers = config.Get("buffers").As<Napi::BigUint64Array>();
  return {buffers.Data(), buffers.Data() + buffers.ElementLength()};
}

/** On a split ring. */
class ReferenceRing : public TimedRing<ReferenceRing, Device, Driver> {
 public:
  static Napi::Function Define(Napi::Env env) {
    auto properties = methods();
    properties.push_back(InstanceMethod<&ReferenceRing::Start>("start"));
    properties.push_back(InstanceMethod<&ReferenceRing::Pop>("pop"));
    return DefineClass(env, "ReferenceRing", properties);
  }

  explicit ReferenceRing(const Napi::CallbackInfo& info) : TimedRing(info) {
    const auto config = info[1].As<Napi::Object>();
    auto* memory = memory_ = reinterpret_cast<std::byte*>(info[0].As<Napi::Uint8Array>().Data());
    const Virtqueue queue = read_queue(memory, config);
    if (const uint32_t to = number(config, "copyTo")) copy_to_ = memory + to;
    device_ =
        std::make_unique<Device>(memory, queue, read_regions(config), number(config, "segmentsCapacity"));
    driver_ = std::make_unique<Driver>(queue, number(config, "descriptors"), number(config, "dataBytes"),
                                       read_buffers(config), big_number(config, "tablesIova"),
                                       memory + number(config, "tablesLinear"));
  }

 private:
  Napi::Value Start(const Napi::CallbackInfo& info) {
    device_->start(info[0].As<Napi::Number>().Uint32Value());
    return info.Env().Undefined();
  }

  /** Pops one chain and writes {head, readable, segments, linear, bytes, …} to the given words: whether there
   * was one. */
  Napi::Value Pop(const Napi::CallbackInfo& info) {
    auto words = info[0].As<Napi::Uint32Array>();
    Chain chain;
    if (!device_->pop(chain)) return Napi::Boolean::New(info.Env(), false);
    words[0] = chain.head;
    words[1] = chain.readable;
    words[2] = static_cast<uint32_t>(chain.segments.size());
    std::memcpy(words.Data() + 3, chain.segments.data(), chain.segments.size_bytes());
    return Napi::Boolean::New(info.Env(), true);
  }
};

/** On a packed ring. */
class PackedReferenceRing : public TimedRing<PackedReferenceRing, PackedDevice, PackedDriver> {
 public:
  static Napi::Function Define(Napi::Env env) {
    auto properties = methods();
    properties.push_back(InstanceMethod<&PackedReferenceRing::Start>("start"));
    return DefineClass(env, "PackedReferenceRing", properties);
  }

  explicit PackedReferenceRing(const Napi::CallbackInfo& info) : TimedRing(info) {
    const auto config = info[1].As<Napi::Object>();
    auto* memory = memory_ = reinterpret_cast<std::byte*>(info[0].As<Napi::Uint8Array>().Data());
    const Virtqueue queue = read_queue(memory, config);
    if (const uint32_t to = number(config, "copyTo")) copy_to_ = memory + to;
    const bool in_order = number(config, "flags") & VQ_F_IN_ORDER;
    digest_.used_length = number(config, "usedLength");
    device_ = std::make_unique<PackedDevice>(memory, queue, read_regions(config),
                                             number(config, "segmentsCapacity"), in_order);
    driver_ = std::make_unique<PackedDriver>(
        queue, number(config, "descriptors"), number(config, "dataBytes"), read_buffers(config),
        big_number(config, "tablesIova"), memory + number(config, "tablesLinear"), in_order);
  }

 private:
  /** Both sides begin anew. */
  Napi::Value Start(const Napi::CallbackInfo& info) {
    device_->start();
    driver_->start();
    return info.Env().Undefined();
  }
};

/** A block driver and a memory-backed disk on one queue, both in C++. */
class ReferenceDisk : public Napi::ObjectWrap<ReferenceDisk> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "ReferenceDisk", {InstanceMethod<&ReferenceDisk::Loop>("loop")});
  }

  explicit ReferenceDisk(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ReferenceDisk>(info) {
    const auto config = info[1].As<Napi::Object>();
    memory_ = reinterpret_cast<std::byte*>(info[0].As<Napi::Uint8Array>().Data());
    const Virtqueue queue = read_queue(memory_, config);
    const auto regions = read_regions(config);
    driver_ = std::make_unique<BlockDriver>(memory_, queue, regions[0].iova, regions[0].linear,
                                            number(config, "slots"));
    device_ = std::make_unique<Device>(memory_, queue, regions, number(config, "segmentsCapacity"));
    disk_ = std::make_unique<Disk>(memory_, number(config, "disk"), number(config, "sectors"));
  }

 private:
  /** loop(submissions, completions, batch, times): as many round trips of a batch; how many requests
   * completed. */
  Napi::Value Loop(const Napi::CallbackInfo& info) {
    const auto* submissions =
        reinterpret_cast<Submission*>(memory_ + info[0].As<Napi::Number>().Uint32Value());
    auto* completions = reinterpret_cast<Completion*>(memory_ + info[1].As<Napi::Number>().Uint32Value());
    const uint32_t batch = info[2].As<Napi::Number>().Uint32Value();
    const uint32_t times = info[3].As<Napi::Number>().Uint32Value();
    uint32_t completed = 0;
    for (uint32_t i = 0; i < times; i++) {
      driver_->submit(submissions, batch);
      device_->serve(batch, [this](const Chain& chain) {
        const auto written = disk_->handle(chain);
        if (!written) device_->stop(VERDICT_REQUEST);
        return written.value_or(0);
      });
      completed += driver_->reap(completions, batch);
    }
    return Napi::Number::New(info.Env(), completed);
  }

  std::byte* memory_;
  std::unique_ptr<BlockDriver> driver_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Disk> disk_;
};

/** Read at each call, so that the compiler cannot replace a copy of known size by instructions of its own. */
void* (*volatile copy)(void*, const void*, size_t) = std::memcpy;

/** copyLoop(view, to, from, bytes, times): as many memcpy calls. */
Napi::Value CopyLoop(const Napi::CallbackInfo& info) {
  auto view = info[0].As<Napi::Uint8Array>();
  uint8_t* const memory = view.Data();
  uint8_t* const to = memory + info[1].As<Napi::Number>().Uint32Value();
  const uint8_t* const from = memory + info[2].As<Napi::Number>().Uint32Value();
  const size_t bytes = info[3].As<Napi::Number>().Uint32Value();
  const uint32_t times = info[4].As<Napi::Number>().Uint32Value();
  for (uint32_t i = 0; i < times; i++) copy(to, from, bytes);
  return info.Env().Undefined();
}

}  // namespace

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("ReferenceRing", ReferenceRing::Define(env));
  exports.Set("PackedReferenceRing", PackedReferenceRing::Define(env));
  exports.Set("ReferenceDisk", ReferenceDisk::Define(env));
  exports.Set("copyLoop", Napi::Function::New<&CopyLoop>(env, "copyLoop"));
  return exports;
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)

}  // namespace ringbell::bench
