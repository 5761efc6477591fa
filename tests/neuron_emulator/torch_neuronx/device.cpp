// A pretend "neuron" accelerator for PyTorch's PrivateUse1 slot, for tests on machines without
// Neuron hardware.  Device memory is ordinary host memory, so every tensor, view and stride is real;
// every operator runs through ONE boxed fallback that re-labels the device tensors as CPU tensors
// over the same bytes, runs the CPU kernel, and re-labels the results.
//
// What it adds on top of "it computes the right numbers":
//   * a device timeline per (core, stream): operators are charged a configurable time and return at
//     once; synchronize()/events/copies to the host wait for it.  A benchmark that forgets to
//     synchronize therefore measures the wrong number, as on the real device;
//   * allocation statistics and an HBM limit that raises torch.OutOfMemoryError;
//   * counters of the operators that ran, and of the programs (an operator with its shapes, or a whole
//     graph) that were compiled, kept in memory or found in TORCH_NEURONX_NEFF_CACHE_DIR.
//
// No Python headers: everything Python needs is a torch.ops.neuron_emu.* function, so one build
// serves every Python version.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/set_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>
#include <unordered_map>
#include <unordered_set>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::IValue;
using c10::Stream;
using torch::jit::Stack;

constexpr DeviceType kNeuron = DeviceType::PrivateUse1;
constexpr int kMaxCores = 64;

int64_t env_int(const char* name, int64_t dflt) {
  const char* v = std::getenv(name);
  return v && *v ? std::strtoll(v, nullptr, 10) : dflt;
}

// NEURON_EMU_CORES cores exist; the runtime's own variables choose among them ("0", "0-3", "1,4-6").
int count_cores() {
  const int64_t total = std::clamp<int64_t>(env_int("NEURON_EMU_CORES", 2), 0, kMaxCores);
  int64_t wanted = total;
  if (const char* v = std::getenv("NEURON_RT_VISIBLE_CORES"); v && *v) {
    wanted = 0;
    std::stringstream list(v);
    for (std::string part; std::getline(list, part, ',');) {
      const auto dash = part.find('-');
      const int64_t first = std::strtoll(part.c_str(), nullptr, 10);
      wanted += dash == std::string::npos ? 1 : std::strtoll(part.c_str() + dash + 1, nullptr, 10) - first + 1;
    }
  } else {
    wanted = env_int("NEURON_RT_NUM_CORES", total);
  }
  return static_cast<int>(std::clamp<int64_t>(wanted, 0, total));
}
int core_count() {
  static const int n = count_cores();
  return n;
}

void check_core(DeviceIndex i) {
  TORCH_CHECK(i >= 0 && i < core_count(), "neuron emulator: invalid core index ", int(i), ", ",
              core_count(), " core(s) are emulated");
}

// ---------------------------------------------------------------------------------------------
// Device timeline
// ---------------------------------------------------------------------------------------------
using Clock = std::chrono::steady_clock;
int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}
void sleep_until(int64_t t) {
  const int64_t d = t - now_ns();
  if (d > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(d));
}

thread_local DeviceIndex tls_core = 0;
thread_local std::array<c10::StreamId, kMaxCores> tls_stream{};  // 0 = default stream
DeviceIndex resolve(Device d) { return d.index() >= 0 ? d.index() : tls_core; }

struct Timeline {
  std::mutex mu;
  std::map<std::pair<int, c10::StreamId>, int64_t> busy_until;
  std::atomic<int64_t> op_ns{env_int("NEURON_EMU_OP_US", 0) * 1000};
  std::atomic<int64_t> next_stream{1};

  int64_t ready_at(DeviceIndex core, c10::StreamId s) {
    std::lock_guard<std::mutex> g(mu);
    return std::max(now_ns(), busy_until[{core, s}]);
  }
  int64_t pending(DeviceIndex core, c10::StreamId s) {
    std::lock_guard<std::mutex> g(mu);
    return busy_until[{core, s}];
  }
  int64_t pending_all(DeviceIndex core) {
    std::lock_guard<std::mutex> g(mu);
    int64_t m = 0;
    for (auto& [k, v] : busy_until)
      if (k.first == core) m = std::max(m, v);
    return m;
  }
  void enqueue(DeviceIndex core, c10::StreamId s, int64_t ns) {
    if (ns <= 0) return;
    std::lock_guard<std::mutex> g(mu);
    auto& b = busy_until[{core, s}];
    b = std::max(now_ns(), b) + ns;
  }
  void not_before(DeviceIndex core, c10::StreamId s, int64_t t) {
    std::lock_guard<std::mutex> g(mu);
    auto& b = busy_until[{core, s}];
    b = std::max(b, t);
  }
};
Timeline& timeline() {
  static Timeline* t = new Timeline();
  return *t;
}
thread_local bool tls_in_program = false;  // operators of a compiled graph are no programs of their own
void charge_op(DeviceIndex core) {
  if (tls_in_program) return;
  timeline().enqueue(core, tls_stream[core], timeline().op_ns.load());
}
void wait_stream_of(DeviceIndex core) { sleep_until(timeline().pending(core, tls_stream[core])); }

// ---------------------------------------------------------------------------------------------
// Allocator (host memory + statistics + limit)
// ---------------------------------------------------------------------------------------------
using c10::CachingAllocator::StatType;
using c10::CachingDeviceAllocator::DeviceStats;

struct EmuAllocator final : c10::DeviceAllocator {
  std::mutex mu;
  std::array<DeviceStats, kMaxCores> stats;
  int64_t limit = env_int("NEURON_EMU_HBM_BYTES", int64_t{16} << 30);

  struct Block {
    EmuAllocator* owner;
    DeviceIndex core;
    size_t nbytes;
    c10::DataPtr host;
  };

  static void free_block(void* ctx) {
    std::unique_ptr<Block> b(static_cast<Block*>(ctx));
    std::lock_guard<std::mutex> g(b->owner->mu);
    auto& s = b->owner->stats[b->core];
    constexpr auto a = static_cast<size_t>(StatType::AGGREGATE);
    s.allocated_bytes[a].decrease(b->nbytes);
    s.active_bytes[a].decrease(b->nbytes);
    s.reserved_bytes[a].decrease(b->nbytes);
    s.allocation[a].decrease(1);
    s.num_device_free++;
  }

  // Put host bytes that already exist under device accounting.
  c10::DataPtr adopt(DeviceIndex core, size_t nbytes, c10::DataPtr host) {
    {
      std::lock_guard<std::mutex> g(mu);
      auto& s = stats[core];
      constexpr auto a = static_cast<size_t>(StatType::AGGREGATE);
      const int64_t cur = s.allocated_bytes[a].current;
      if (limit > 0 && cur + int64_t(nbytes) > limit) {
        s.num_ooms++;
        // A plain RuntimeError, as the real allocator's was when its source was last public.
        TORCH_CHECK(false, "NRT allocation failed for size ", nbytes, " on neuron core ", int(core), ": ", cur, " of ",
                    limit, " bytes in use");
      }
      s.allocated_bytes[a].increase(nbytes);
      s.active_bytes[a].increase(nbytes);
      s.reserved_bytes[a].increase(nbytes);
      s.allocation[a].increase(1);
      s.num_device_alloc++;
    }
    void* data = host.get();
    auto* b = new Block{this, core, nbytes, std::move(host)};
    return {data, b, &free_block, Device(kNeuron, core)};
  }
  c10::DataPtr allocate(size_t n) override {
    check_core(tls_core);
    return adopt(tls_core, n, c10::GetCPUAllocator()->allocate(n));
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* dst, const void* src, size_t n) const override { std::memcpy(dst, src, n); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, Stream) override {}
  DeviceStats getDeviceStats(DeviceIndex i) override {
    check_core(i);
    std::lock_guard<std::mutex> g(mu);
    return stats[i];
  }
  template <class F>
  void each(DeviceIndex i, F f) {
    check_core(i);
    std::lock_guard<std::mutex> g(mu);
    auto& s = stats[i];
    for (auto* arr : {&s.allocation, &s.allocated_bytes, &s.active_bytes, &s.reserved_bytes})
      for (auto& st : *arr) f(st);
  }
  void resetAccumulatedStats(DeviceIndex i) override {
    each(i, [](auto& s) { s.reset_accumulated(); });
    std::lock_guard<std::mutex> g(mu);
    stats[i].num_ooms = stats[i].num_device_alloc = stats[i].num_device_free = 0;
  }
  void resetPeakStats(DeviceIndex i) override { each(i, [](auto& s) { s.reset_peak(); }); }
  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex i) override {
    check_core(i);
    std::lock_guard<std::mutex> g(mu);
    return {size_t(limit - stats[i].allocated_bytes[0].current), size_t(limit)};
  }
};
EmuAllocator& allocator() {
  static EmuAllocator* a = new EmuAllocator();
  return *a;
}

// ---------------------------------------------------------------------------------------------
// Device guard: current core, streams, events
// ---------------------------------------------------------------------------------------------
struct EmuEvent {
  int64_t t = 0;  // device time at which everything recorded before it is done
};

struct EmuGuard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kNeuron; }
  Device getDevice() const override { return Device(kNeuron, tls_core); }
  Device exchangeDevice(Device d) const override {
    Device old = getDevice();
    setDevice(d);
    return old;
  }
  void setDevice(Device d) const override {
    if (d.index() < 0) return;
    check_core(d.index());
    tls_core = d.index();
  }
  void uncheckedSetDevice(Device d) const noexcept override {
    if (d.index() >= 0 && d.index() < core_count()) tls_core = d.index();
  }
  DeviceIndex deviceCount() const noexcept override { return DeviceIndex(core_count()); }

  Stream make(DeviceIndex core, c10::StreamId id) const {
    return Stream(Stream::UNSAFE, Device(kNeuron, core), id);
  }
  Stream getStream(Device d) const override { return make(resolve(d), tls_stream[resolve(d)]); }
  Stream getDefaultStream(Device d) const override { return make(resolve(d), 0); }
  Stream getNewStream(Device d, int) const override { return make(resolve(d), timeline().next_stream++); }
  Stream getStreamFromGlobalPool(Device d, bool) const override { return getNewStream(d, 0); }
  Stream exchangeStream(Stream s) const override {
    const auto core = s.device_index();
    Stream old = make(core, tls_stream[core]);
    tls_stream[core] = s.id();
    return old;
  }
  bool queryStream(const Stream& s) const override {
    return timeline().pending(s.device_index(), s.id()) <= now_ns();
  }
  void synchronizeStream(const Stream& s) const override {
    sleep_until(timeline().pending(s.device_index(), s.id()));
  }
  void synchronizeDevice(const DeviceIndex i) const override {
    sleep_until(timeline().pending_all(i >= 0 ? i : tls_core));
  }
  void record(void** ev, const Stream& s, const DeviceIndex, const c10::EventFlag) const override {
    if (!*ev) *ev = new EmuEvent();
    static_cast<EmuEvent*>(*ev)->t = timeline().ready_at(s.device_index(), s.id());
  }
  void block(void* ev, const Stream& s) const override {
    if (ev) timeline().not_before(s.device_index(), s.id(), static_cast<EmuEvent*>(ev)->t);
  }
  bool queryEvent(void* ev) const override { return !ev || static_cast<EmuEvent*>(ev)->t <= now_ns(); }
  void synchronizeEvent(void* ev) const override {
    if (ev) sleep_until(static_cast<EmuEvent*>(ev)->t);
  }
  void destroyEvent(void* ev, const DeviceIndex) const noexcept override { delete static_cast<EmuEvent*>(ev); }
  double elapsedTime(void* a, void* b, const DeviceIndex) const override {
    TORCH_CHECK(a && b, "both events must be recorded before elapsed_time");
    return double(static_cast<EmuEvent*>(b)->t - static_cast<EmuEvent*>(a)->t) * 1e-6;  // ms
  }
  void recordDataPtrOnStream(const c10::DataPtr&, const Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, EmuGuard)

// ---------------------------------------------------------------------------------------------
// Random generator: a CPU generator that says it lives on a core
// ---------------------------------------------------------------------------------------------
struct EmuGenerator final : c10::GeneratorImpl {
  at::Generator inner = at::detail::createCPUGenerator();
  explicit EmuGenerator(DeviceIndex i) : c10::GeneratorImpl(Device(kNeuron, i), DispatchKeySet(DispatchKey::PrivateUse1)) {}
  void set_current_seed(uint64_t s) override { inner.set_current_seed(s); }
  void set_offset(uint64_t) override { TORCH_CHECK(false, "neuron emulator: no generator offset"); }
  uint64_t get_offset() const override { TORCH_CHECK(false, "neuron emulator: no generator offset"); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& st) override { inner.unsafeGetGeneratorImpl()->set_state(st); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  c10::GeneratorImpl* clone_impl() const override {
    auto* g = new EmuGenerator(device().index());
    g->inner = inner.clone();
    return g;
  }
};
at::Generator& default_generator(DeviceIndex i) {
  static auto* gens = [] {
    auto* v = new std::vector<at::Generator>();
    for (int k = 0; k < core_count(); ++k) v->push_back(at::make_generator<EmuGenerator>(DeviceIndex(k)));
    return v;
  }();
  if (i < 0) i = tls_core;
  check_core(i);
  return (*gens)[i];
}

// resize_bytes_cpu() labels an emptied storage "cpu"; FSDP empties and refills storages, so do it here.
void resize_storage(c10::StorageImpl* st, size_t n) {
  c10::DeviceGuard g(st->device());
  c10::DataPtr fresh = n ? allocator().allocate(n) : c10::DataPtr(nullptr, st->device());
  const size_t keep = std::min(n, st->nbytes());
  if (keep && st->data()) std::memcpy(fresh.get(), st->data(), keep);
  st->set_data_ptr_noswap(std::move(fresh));
  st->set_nbytes(n);
}

// Pinned host memory: ordinary host memory with a remembered address range.
struct PinnedAllocator final : c10::Allocator {
  static std::mutex& mu() { static auto* m = new std::mutex(); return *m; }
  static std::map<const char*, size_t>& ranges() { static auto* r = new std::map<const char*, size_t>(); return *r; }
  struct Block { c10::DataPtr host; };
  c10::DataPtr allocate(size_t n) override {
    auto* b = new Block{c10::GetCPUAllocator()->allocate(n)};
    void* p = b->host.get();
    std::lock_guard<std::mutex> g(mu());
    ranges()[static_cast<const char*>(p)] = n;
    return {p, b, [](void* c) {
              std::unique_ptr<Block> b(static_cast<Block*>(c));
              std::lock_guard<std::mutex> g(mu());
              ranges().erase(static_cast<const char*>(b->host.get()));
            }, at::kCPU};
  }
  void copy_data(void* d, const void* s, size_t n) const override { std::memcpy(d, s, n); }
  static bool contains(const void* p) {
    std::lock_guard<std::mutex> g(mu());
    auto it = ranges().upper_bound(static_cast<const char*>(p));
    return it != ranges().begin() && static_cast<const char*>(p) < (--it)->first + it->second;
  }
};

struct EmuHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return core_count() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  void init() const override {}
  DeviceIndex deviceCount() const override { return DeviceIndex(core_count()); }
  void setCurrentDevice(DeviceIndex i) const override { check_core(i); tls_core = i; }
  DeviceIndex getCurrentDevice() const override { return tls_core; }
  DeviceIndex exchangeDevice(DeviceIndex i) const override { auto o = tls_core; setCurrentDevice(i); return o; }
  DeviceIndex maybeExchangeDevice(DeviceIndex i) const override { return i < 0 ? tls_core : exchangeDevice(i); }
  const at::Generator& getDefaultGenerator(DeviceIndex i) const override { return default_generator(i); }
  at::Generator getNewGenerator(DeviceIndex i) const override {
    return at::make_generator<EmuGenerator>(i < 0 ? tls_core : i);
  }
  at::Allocator* getPinnedMemoryAllocator() const override { static auto* a = new PinnedAllocator(); return a; }
  bool isPinnedPtr(const void* p) const override { return PinnedAllocator::contains(p); }
  Device getDeviceFromPtr(void*) const override { return Device(kNeuron, tls_core); }
  void resizePrivateUse1Bytes(const c10::Storage& s, size_t n) const override {
    resize_storage(s.unsafeGetStorageImpl(), n);
  }
};

// ---------------------------------------------------------------------------------------------
// Re-labelling between the device and the CPU
// ---------------------------------------------------------------------------------------------
bool on_neuron(const Tensor& t) { return t.defined() && t.device().type() == kNeuron; }

Tensor make_over(const c10::Storage& st, DispatchKey key, const Tensor& like) {
  auto out = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(st), DispatchKeySet(key), like.dtype());
  auto* impl = out.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.is_conj()) out._set_conj(true);
  if (like.is_neg()) out._set_neg(true);
  return out;
}

// A CPU tensor over the same bytes; keeps the device storage alive.
Tensor as_cpu(const Tensor& t) {
  const auto& st = t.storage();
  auto* keep = new c10::Storage(st);
  c10::DataPtr p(st.mutable_data(), keep, [](void* c) { delete static_cast<c10::Storage*>(c); }, at::kCPU);
  c10::Storage cpu(c10::Storage::use_byte_size_t(), st.nbytes(), std::move(p), c10::GetCPUAllocator(), /*resizable=*/true);
  return make_over(cpu, DispatchKey::CPU, t);
}

// A device tensor that takes over a CPU tensor's bytes (no copy), under device accounting.
Tensor adopt_cpu(const Tensor& t, DeviceIndex core) {
  const auto& st = t.storage();
  auto* keep = new c10::Storage(st);
  c10::DataPtr host(st.mutable_data(), keep, [](void* c) { delete static_cast<c10::Storage*>(c); }, at::kCPU);
  c10::Storage dev(c10::Storage::use_byte_size_t(), st.nbytes(), allocator().adopt(core, st.nbytes(), std::move(host)),
                   &allocator(), /*resizable=*/true);
  return make_over(dev, DispatchKey::PrivateUse1, t);
}

struct OpCounts {
  std::mutex mu;
  std::unordered_map<c10::OperatorName, int64_t> n;
};
OpCounts& counts() {
  static OpCounts* c = new OpCounts();
  return *c;
}

// Compiled programs: held in memory by this process, else found in the cache folder, else "compiled".
struct Programs {
  std::mutex mu;
  std::unordered_set<uint64_t> held;
  std::atomic<int64_t> memory_hits{0}, disk_hits{0}, misses{0};
  const int64_t compile_ns = env_int("NEURON_EMU_COMPILE_US", 0) * 1000;
  std::string folder, flags;

  Programs() {
    if (const char* v = std::getenv("TORCH_NEURONX_NEFF_CACHE_DIR")) folder = v;
    if (const char* v = std::getenv("NEURON_CC_FLAGS")) flags = v;
    if (folder.empty()) return;
    std::error_code ignored;  // a folder that cannot be made is no cache: every program is a miss
    std::filesystem::create_directories(folder, ignored);
  }
  void obtain(uint64_t key) {
    {
      std::lock_guard<std::mutex> g(mu);
      if (!held.insert(key).second) {
        memory_hits++;
        return;
      }
    }
    const std::string file = folder + "/" + std::to_string(c10::hash_combine(key, std::hash<std::string>()(flags))) + ".neff";
    if (!folder.empty() && std::filesystem::exists(file)) {
      disk_hits++;
      return;
    }
    misses++;
    sleep_until(now_ns() + compile_ns);
    if (!folder.empty()) std::ofstream(file) << "emulated\n";
  }
};
Programs& programs() {
  static Programs* p = new Programs();
  return *p;
}

// An eager operator is a program of its name and its tensors' shapes and dtypes.
struct ProgramKey {
  uint64_t key;
  explicit ProgramKey(const c10::OperatorName& name) : key(std::hash<c10::OperatorName>()(name)) {}
  void add(const Tensor& t) {
    if (!t.defined()) return;
    key = c10::hash_combine(key, size_t(t.scalar_type()));
    for (int64_t n : t.sizes()) key = c10::hash_combine(key, size_t(n) + 1);
  }
};

// Book an operator that ran outside the fallback.
void book(const char* name, std::initializer_list<Tensor> tensors, DeviceIndex core) {
  const c10::OperatorName op(name, "");
  ProgramKey program(op);
  for (const Tensor& t : tensors) program.add(t);
  {
    std::lock_guard<std::mutex> g(counts().mu);
    counts().n[op]++;
  }
  if (!tls_in_program) programs().obtain(program.key);
  charge_op(core);
}

struct Relabel {
  std::vector<std::pair<Tensor, Tensor>> pairs;  // device tensor, its CPU alias
  DeviceIndex core = -1;

  Tensor in(const Tensor& t) {
    if (!on_neuron(t)) return t;
    if (core < 0) core = t.device().index();
    for (auto& p : pairs)
      if (p.first.is_same(t)) return p.second;
    // two tensors over one storage must alias one CPU storage too
    for (auto& p : pairs)
      if (p.first.storage().is_alias_of(t.storage())) {
        Tensor a = make_over(p.second.storage(), DispatchKey::CPU, t);
        pairs.emplace_back(t, a);
        return a;
      }
    pairs.emplace_back(t, as_cpu(t));
    return pairs.back().second;
  }
  Tensor out(const Tensor& t) {
    if (!t.defined() || t.device().type() != DeviceType::CPU) return t;
    for (auto& p : pairs)
      if (p.second.is_same(t)) return p.first;
    for (auto& p : pairs)  // a view of an input
      if (t.storage().is_alias_of(p.second.storage()) && p.second.storage().unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl())
        return make_over(p.first.storage(), DispatchKey::PrivateUse1, t);
    return adopt_cpu(t, core < 0 ? tls_core : core);
  }
  // CPU kernels may resize an output or move its storage: carry that back.
  void write_back() {
    for (auto& [dev, cpu] : pairs) {
      const bool moved = cpu.storage().data() != dev.storage().data();
      if (moved) {
        resize_storage(dev.storage().unsafeGetStorageImpl(), cpu.storage().nbytes());
        std::memcpy(dev.storage().mutable_data(), cpu.storage().data(), cpu.storage().nbytes());
      }
      if (moved || cpu.sizes() != dev.sizes() || cpu.strides() != dev.strides())
        dev.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
  }
};

void neuron_fallback(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const size_t nargs = schema.arguments().size();
  const size_t base = stack->size() - nargs;
  Relabel r;
  ProgramKey program(schema.operator_name());

  for (size_t i = 0; i < nargs; ++i) {
    IValue& v = (*stack)[base + i];
    if (v.isTensor()) {
      program.add(v.toTensor());
      v = IValue(r.in(v.toTensor()));
    } else if (v.isTensorList()) {
      c10::List<Tensor> l;
      for (const Tensor& t : v.toTensorVector()) {
        program.add(t);
        l.push_back(r.in(t));
      }
      v = IValue(l);
    } else if (v.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> l;
      for (const std::optional<Tensor>& t : v.toOptionalTensorVector())
        l.push_back(t.has_value() ? std::optional<Tensor>(r.in(*t)) : std::nullopt);
      v = IValue(l);
    } else if (v.isDevice() && v.toDevice().type() == kNeuron) {
      if (r.core < 0) r.core = resolve(v.toDevice());
      v = IValue(Device(DeviceType::CPU));
    } else if (v.isGenerator() && v.toGenerator().defined() && v.toGenerator().device().type() == kNeuron) {
      v = IValue(static_cast<EmuGenerator*>(v.toGenerator().unsafeGetGeneratorImpl())->inner);
    }
  }
  const DeviceIndex core = r.core < 0 ? tls_core : r.core;
  // Random operators without a generator draw from the core's own one.
  for (size_t i = 0; i < nargs; ++i)
    if (schema.arguments()[i].name() == "generator" && (*stack)[base + i].isNone())
      (*stack)[base + i] = IValue(static_cast<EmuGenerator*>(default_generator(core).unsafeGetGeneratorImpl())->inner);

  {
    std::lock_guard<std::mutex> g(counts().mu);
    counts().n[schema.operator_name()]++;
  }
  if (!tls_in_program) programs().obtain(program.key);

  op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);

  charge_op(core);
  r.write_back();

  const size_t nret = schema.returns().size();
  const size_t rbase = stack->size() - nret;
  bool to_host = false;
  for (size_t i = 0; i < nret; ++i) {
    IValue& v = (*stack)[rbase + i];
    if (v.isTensor()) {
      v = IValue(r.out(v.toTensor()));
    } else if (v.isTensorList()) {
      c10::List<Tensor> l;
      for (const Tensor& t : v.toTensorVector()) l.push_back(r.out(t));
      v = IValue(l);
    } else if (v.isScalar() || v.isBool() || v.isInt() || v.isDouble()) {
      to_host = true;  // .item(), equal(), ...: the host needs the value now
    }
  }
  if (to_host) wait_stream_of(core);
}

// ---------------------------------------------------------------------------------------------
// The few operators that cannot go through the fallback
// ---------------------------------------------------------------------------------------------
Tensor empty_memory_format(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                           std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> mf) {
  TORCH_CHECK(c10::layout_or_default(layout) == at::kStrided, "neuron emulator: strided tensors only");
  c10::DeviceGuard g(c10::device_or_default(device));
  return at::detail::empty_generic(size, &allocator(), DispatchKeySet(DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), mf);
}
Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout> layout, std::optional<Device> device, std::optional<bool>) {
  TORCH_CHECK(c10::layout_or_default(layout) == at::kStrided, "neuron emulator: strided tensors only");
  c10::DeviceGuard g(c10::device_or_default(device));
  return at::detail::empty_strided_generic(size, stride, &allocator(), DispatchKeySet(DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}
const Tensor& resize_(const Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> mf) {
  c10::DeviceGuard g(self.device());
  return at::native::resize_(self, size, mf);
}
Tensor& set_storage(Tensor& self, at::Storage src) { return at::native::set_(self, std::move(src)); }
Tensor& set_storage_offset(Tensor& self, at::Storage src, int64_t off, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(src), off, size, stride);
}
Tensor& set_tensor(Tensor& self, const Tensor& src) { return at::native::set_tensor_(self, src); }

Tensor copy_from(const Tensor& self, const Tensor& dst, bool non_blocking) {
  const bool to_host = on_neuron(self) && !on_neuron(dst);
  if (to_host && !non_blocking) wait_stream_of(self.device().index());
  Tensor s = on_neuron(self) ? as_cpu(self) : self;
  Tensor d = on_neuron(dst) ? as_cpu(dst) : dst;
  d.copy_(s);
  charge_op(on_neuron(self) ? self.device().index() : dst.device().index());
  return dst;
}
Tensor copy_from_and_resize(const Tensor& self, const Tensor& dst) {
  dst.resize_(self.sizes());
  dst.copy_(self);
  return dst;
}

// PrivateUse1 convolutions are routed to the *_overrideable hooks.
Tensor conv(const Tensor& x, const Tensor& w, const std::optional<Tensor>& b, c10::SymIntArrayRef s, c10::SymIntArrayRef p,
            c10::SymIntArrayRef d, bool tr, c10::SymIntArrayRef op, c10::SymInt groups) {
  std::optional<Tensor> bias;
  if (b.has_value() && b->defined()) bias = as_cpu(*b);
  Tensor y = at::convolution_symint(as_cpu(x), as_cpu(w), bias, s, p, d, tr, op, groups);
  book("aten::convolution", {x, w}, x.device().index());
  return adopt_cpu(y, x.device().index());
}
std::tuple<Tensor, Tensor, Tensor> conv_backward(const Tensor& gy, const Tensor& x, const Tensor& w, c10::SymIntArrayRef s,
                                                 c10::SymIntArrayRef p, c10::SymIntArrayRef d, bool tr, c10::SymIntArrayRef op,
                                                 c10::SymInt groups, std::array<bool, 3> mask) {
  auto [gx, gw, gb] = at::convolution_backward_symint(as_cpu(gy), as_cpu(x), as_cpu(w),
      mask[2] ? c10::OptionalArrayRef<c10::SymInt>(c10::SymIntArrayRef({w.sym_size(tr ? 1 : 0) * (tr ? groups : c10::SymInt(1))})) : std::nullopt,
      s, p, d, tr, op, groups, mask);
  const auto core = x.device().index();
  book("aten::convolution_backward", {gy, x, w}, core);
  auto up = [&](const Tensor& t) { return t.defined() ? adopt_cpu(t, core) : t; };
  return {up(gx), up(gw), up(gb)};
}
void record_stream(Tensor&, Stream) {}

// module.to("neuron") may swap the data under a Parameter. Without this, PyTorch makes new Parameters
// for PrivateUse1, which silently unties tied weights and orphans an optimizer built before the move.
bool has_compatible_shallow_copy_type(const Tensor& self, const Tensor& from) {
  auto dense = [](const Tensor& t) { return t.layout() == at::kStrided && (t.is_cpu() || on_neuron(t)); };
  return dense(self) && dense(from);
}
// The CPU kernel takes floats only; accelerators take integers too, and models rely on it (MoE routing).
Tensor histc(const Tensor& self, int64_t bins, const at::Scalar& lo, const at::Scalar& hi) {
  const Tensor x = as_cpu(self);
  const bool integral = at::isIntegralType(x.scalar_type(), /*includeBool=*/true);
  book("aten::histc", {self}, self.device().index());
  return adopt_cpu(at::histc(integral ? x.to(at::kDouble) : x, bins, lo, hi).to(x.scalar_type()), self.device().index());
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&neuron_fallback>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty_memory_format);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_offset);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("convolution_overrideable", conv);
  m.impl("convolution_backward_overrideable", conv_backward);
  m.impl("record_stream", record_stream);
  m.impl("_has_compatible_shallow_copy_type", has_compatible_shallow_copy_type);
  m.impl("histc", histc);
}

// torch.autocast("neuron"): reuse PyTorch's own op lists (their macros expect to be inside namespace at).
namespace at {
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define EMU_LOW(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define EMU_FP32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define EMU_FP32_DTYPE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define EMU_PROMOTE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(EMU_LOW)
  AT_FORALL_FP32(EMU_FP32)
  AT_FORALL_FP32_SET_OPT_DTYPE(EMU_FP32_DTYPE)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(EMU_PROMOTE)
}
}  // namespace at

TORCH_LIBRARY(neuron_emu, m) {
  m.def("as_cpu(Tensor self) -> Tensor", torch::CppFunction::makeFromUnboxedFunction(TORCH_FN(as_cpu)));
  m.def("core_count() -> int", torch::CppFunction::makeFromUnboxedFunction(+[]() -> int64_t { return core_count(); }));
  m.def("default_generator(int core) -> Generator?", torch::CppFunction::makeFromUnboxedFunction(+[](int64_t core) {
    return std::optional<at::Generator>(default_generator(DeviceIndex(core)));
  }));
  m.def("enqueue(int core, float us) -> ()", torch::CppFunction::makeFromUnboxedFunction(+[](int64_t core, double us) {
    check_core(DeviceIndex(core));
    timeline().enqueue(DeviceIndex(core), tls_stream[core], int64_t(us * 1e3));
  }));
  m.def("set_op_latency(float us) -> ()", torch::CppFunction::makeFromUnboxedFunction(+[](double us) { timeline().op_ns = int64_t(us * 1e3); }));
  m.def("set_memory_limit(int nbytes) -> ()", torch::CppFunction::makeFromUnboxedFunction(+[](int64_t n) { allocator().limit = n; }));
  m.def("memory_limit() -> int", torch::CppFunction::makeFromUnboxedFunction(+[]() -> int64_t { return allocator().limit; }));
  m.def("clear_op_counts() -> ()", torch::CppFunction::makeFromUnboxedFunction(+[]() {
    std::lock_guard<std::mutex> g(counts().mu);
    counts().n.clear();
  }));
  m.def("op_counts() -> Dict(str, int)", torch::CppFunction::makeFromUnboxedFunction(+[]() {
    c10::Dict<std::string, int64_t> d;  // by name, overloads together
    std::lock_guard<std::mutex> g(counts().mu);
    for (auto& [k, v] : counts().n) d.insert_or_assign(k.name, v + (d.contains(k.name) ? d.at(k.name) : 0));
    return d;
  }));
  m.def("obtain_program(int key) -> ()", torch::CppFunction::makeFromUnboxedFunction(+[](int64_t key) {
    programs().obtain(uint64_t(key));
  }));
  m.def("enter_program() -> ()", torch::CppFunction::makeFromUnboxedFunction(+[]() { tls_in_program = true; }));
  m.def("leave_program() -> ()", torch::CppFunction::makeFromUnboxedFunction(+[]() {
    tls_in_program = false;
    charge_op(tls_core);
  }));
  m.def("program_counts() -> int[]", torch::CppFunction::makeFromUnboxedFunction(+[]() {
    return std::vector<int64_t>{programs().memory_hits, programs().disk_hits, programs().misses};
  }));
}

static const bool registered = [] {
  c10::SetAllocator(kNeuron, &allocator());
  at::RegisterPrivateUse1HooksInterface(new EmuHooks());
  return true;
}();
