// The slowest of a million calls from C++: encode, decode, prompt, queue and safety, their allocations and page faults.
//
//   realtime TEXT_MODEL [CALLS]
//
// Prints one line of JSON a function. Times are wall time; `cpu_max` is of a second pass, by the thread's processor clock,
// which stands still while the machine does something else.

#include <pioxide.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>
#include <vector>

// glibc's own allocator, counted: the library's Rust half calls these too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
static thread_local std::size_t allocations = 0;
void* malloc(std::size_t size) { return ++allocations, __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return ++allocations, __libc_calloc(count, size); }
void* realloc(void* old, std::size_t size) { return ++allocations, __libc_realloc(old, size); }
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
    return ++allocations, *out = __libc_memalign(alignment, size), *out == nullptr;
}
}

namespace {

constexpr pioxide::Shape shape{50, 14};

double now(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

long faults() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

template <class Call>
void measure(const char* name, int calls, Call call) {
    static std::vector<double> times;
    times.assign(static_cast<std::size_t>(calls), 0.0);
    for (int at = 0; at < 1000; ++at) {
        call(at);
    }
    const std::size_t allocated = allocations;
    const long faulted = faults();
    for (int at = 0; at < calls; ++at) {
        const double began = now(CLOCK_MONOTONIC);
        call(at);
        times[static_cast<std::size_t>(at)] = now(CLOCK_MONOTONIC) - began;
    }
    const std::size_t allocated_now = allocations - allocated;
    const long faulted_now = faults() - faulted;
    double cpu_max = 0.0;
    for (int at = 0; at < calls; ++at) {
        const double began = now(CLOCK_THREAD_CPUTIME_ID);
        call(at);
        cpu_max = std::max(cpu_max, now(CLOCK_THREAD_CPUTIME_ID) - began);
    }
    std::sort(times.begin(), times.end());
    const auto part = [&](double share) { return times[static_cast<std::size_t>(share * (calls - 1))]; };
    std::printf("{\"from\": \"C++\", \"call\": \"%s\", \"calls\": %d, \"p50\": %.3f, \"p99.9\": %.3f, \"p99.99\": %.3f, "
                "\"max\": %.3f, \"cpu_max\": %.3f, \"allocations\": %zu, \"faults\": %ld}\n",
                name, calls, part(0.5), part(0.999), part(0.9999), times.back(), cpu_max, allocated_now, faulted_now);
}

} // namespace

int main(int count, char** arguments) {
    const int calls = count > 2 ? std::atoi(arguments[2]) : 1'000'000;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        std::fprintf(stderr, "memory is not locked\n");
    }
    constexpr int many = 256;
    std::vector<double> chunks(many * shape.size());
    for (std::size_t at = 0; at < chunks.size(); ++at) {
        const double step = static_cast<double>(at / shape.dim % shape.horizon + at / shape.size() * 3);
        const double joint = static_cast<double>(at % shape.dim);
        chunks[at] = 0.8 * std::sin(step / (15 + joint) + joint) + 0.02 * std::sin(step * 12.9898 + joint * 78.233);
    }
    const auto chunk = [&](int at) { return std::span<const double>(chunks).subspan(at % many * shape.size(), shape.size()); };

    auto scratch = pioxide::Scratch::make().value();
    const auto codec = pioxide::Codec::fit(chunks, shape, 1024).value();
    codec.prepare(scratch, shape).value();
    std::vector<std::uint32_t> room(4 * shape.size());
    std::vector<std::vector<std::uint32_t>> ids;
    for (int at = 0; at < many; ++at) {
        const auto found = codec.encode(scratch, chunk(at), shape, room).value().ids;
        ids.emplace_back(found.begin(), found.end());
    }
    measure("encode", calls, [&](int at) { codec.encode(scratch, chunk(at), shape, room).value(); });
    std::vector<double> actions(shape.size());
    measure("decode", calls, [&](int at) {
        codec.decode(scratch, ids[static_cast<std::size_t>(at % many)], shape, actions).value();
    });

    const auto text = pioxide::Text::from_file(arguments[1]).value();
    PioxidePromptOptions options{};
    options.family = PIOXIDE_FAMILY_PI05;
    const auto prompts = pioxide::Prompts::make(text, options).value();
    const auto instruction = prompts.tokenize("Fold the towel").value();
    std::vector<std::int32_t> tokens(200);
    std::vector<std::uint8_t> mask(200);
    measure("prompt", calls,
            [&](int at) { prompts.write(instruction, chunk(at).first(shape.dim), tokens, mask).value(); });

    PioxideQueueOptions queue_options{};
    queue_options.dim = shape.dim;
    queue_options.most = shape.horizon;
    auto queue = pioxide::Queue::make(queue_options).value();
    std::vector<double> action(shape.dim);
    measure("queue", calls, [&](int at) {
        if (at % 25 == 0) {
            queue.put(chunk(at), queue.info().value().consumed).value();
        }
        queue.take(action).value();
    });
    constexpr std::array low{-1.0}, high{1.0}, velocity{2.0}, acceleration{20.0};
    auto safety = pioxide::Safety::make(shape.dim, 1000.0, {low, high, velocity, acceleration}).value();
    safety.reset(action).value();
    measure("safety", calls, [&](int at) {
        const auto wanted = chunk(at).first(shape.dim);
        std::copy(wanted.begin(), wanted.end(), action.begin());
        safety.apply(action).value();
    });
}
