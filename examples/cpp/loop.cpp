// A control loop of 1 kHz around a policy that answers with action tokens: contract, prompt, encode, decode, queue, safety.
//
//   loop TEXT_MODEL [SECONDS]
//
// A real robot would send the prompt to a policy server and get tokens back; here a sine stands in for the policy, and
// printing for the motors. What a robot reads and writes is marked.

#include <pioxide.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr pioxide::Shape shape{50, 7};
constexpr double hz = 1000.0;
constexpr int every = 25; // ticks between two answers

using Clock = std::chrono::steady_clock;

/// A contract, as pioxide writes it beside a policy: seven joints from -2 to 2 rad that are [-1, 1] to the model. On a
/// robot: Contract::from_file, with the policy's directory.
constexpr std::string_view contract_json = R"({
  "version": 1,
  "family": "pi0_fast",
  "robot": {"name": "arm", "cameras": {}, "state": {"joints": 7}, "action_dim": 7, "hz": 1000},
  "delta_mask": [],
  "state_norm": {"mode": "min_max", "arithmetic": "lerobot", "epsilon": 1e-8},
  "action_norm": {"mode": "min_max", "arithmetic": "lerobot", "epsilon": 1e-8},
  "norm_stats": {
    "state": {"min": [-2, -2, -2, -2, -2, -2, -2], "max": [2, 2, 2, 2, 2, 2, 2]},
    "actions": {"min": [-2, -2, -2, -2, -2, -2, -2], "max": [2, 2, 2, 2, 2, 2, 2]}
  },
  "state_in_text": true, "state_text_dim": null, "prompt_style": "openpi", "text_len": 250,
  "default_prompt": "Fold the towel", "action_horizon": 50, "model_dim": 7,
  "fast": {"sha256": "any", "vocab_size": 512, "scale": 100, "min_token": 0},
  "unknown": ["cameras", "absent_camera", "num_steps", "play_steps", "image_size", "resize", "max_delay", "answer_gap"]
})";

/// What a policy would want from `tick` on: normalised actions [50, 7].
void plan(int tick, std::span<double> chunk) {
    for (std::size_t step = 0; step < shape.horizon; ++step) {
        for (std::size_t joint = 0; joint < shape.dim; ++joint) {
            double time = static_cast<double>(tick) + static_cast<double>(step);
            chunk[step * shape.dim + joint] = 0.8 * std::sin(time / 300.0 + static_cast<double>(joint));
        }
    }
}

int run(const std::string& model, double seconds) {
    if (!pioxide::abi_matches()) {
        std::fprintf(stderr, "the library is of another ABI than the header\n");
        return 1;
    }

    // Made once, before the loop: everything that allocates.
    pioxide::Scratch scratch = pioxide::Scratch::make().value();
    std::vector<double> seen(64 * shape.size());
    for (int n = 0; n < 64; ++n) {
        plan(97 * n, std::span(seen).subspan(n * shape.size(), shape.size()));
    }
    // On a robot: Codec::from_directory, with the tokenizer that the policy was trained with.
    pioxide::Codec codec = pioxide::Codec::fit(seen, shape, 512, 100.0).value(); // 100: finer than the usual 10
    codec.prepare(scratch, shape).value();

    pioxide::Text text = pioxide::Text::from_file(model).value();
    pioxide::Contract contract = pioxide::Contract::from_bytes(contract_json).value();
    // On a robot: contract.check(codec).value() refuses a tokenizer that the policy was not trained with.
    pioxide::Prompts prompts = pioxide::Prompts::make(text, contract).value();
    const auto task = contract.text(PIOXIDE_CONTRACT_TEXT_DEFAULT_PROMPT).value();
    pioxide::Instruction instruction = prompts.tokenize(task).value();

    PioxideQueueOptions queue_options{};
    queue_options.dim = shape.dim;
    queue_options.most = shape.horizon;
    queue_options.on_empty = PIOXIDE_ON_EMPTY_HOLD;
    pioxide::Queue queue = pioxide::Queue::make(queue_options).value();

    constexpr std::array low{-2.0}, high{2.0}, velocity{12.0}, acceleration{4000.0};
    pioxide::Safety safety = pioxide::Safety::make(shape.dim, hz, {low, high, velocity, acceleration}).value();

    std::vector<double> chunk(shape.size()), decoded(shape.size());
    std::vector<std::uint32_t> ids(4 * shape.size());
    std::vector<std::int32_t> tokens(250), answer(4 * shape.size());
    std::vector<std::uint8_t> mask(250);
    std::array<double, shape.dim> joints{}, normalised{}, start{};
    std::vector<double> actions(shape.size());
    plan(0, chunk);
    contract.invert_actions(std::span<const double>(chunk), shape.dim, joints, actions, shape).value();
    std::copy_n(actions.begin(), shape.dim, joints.begin()); // read: the measured joints
    safety.reset(joints).value();

    // The loop: nothing below allocates or waits, but for the clock.
    const int ticks = static_cast<int>(seconds * hz);
    std::array<std::size_t, 3> kinds{};
    std::size_t limited = 0, prompt_length = 0, id_count = 0;
    double worst_error = 0.0;
    Clock::duration slowest{};
    auto due = Clock::now();
    for (int tick = 0; tick < ticks; ++tick) {
        const auto began = Clock::now();
        if (tick % every == 0) {
            const double since = queue.info().value().consumed;
            start = joints;
            // To the policy: the prompt with the joints as they are, normalised as the contract says.
            contract.apply_state(std::span<const double>(start), normalised).value();
            prompt_length = prompts.write(instruction, std::span<const double>(normalised), tokens, mask).value();
            // From the policy: tokens of an answer.
            plan(tick, chunk);
            const auto encoded = codec.encode(scratch, std::span<const double>(chunk), shape, ids).value();
            id_count = encoded.ids.size();
            const auto written = std::span(answer).first(id_count);
            prompts.text_ids(encoded.ids, written).value();
            // The way back.
            const auto found = prompts.fast_ids(scratch, written, true, ids).value();
            codec.decode(scratch, found, shape, decoded).value();
            for (std::size_t at = 0; at < chunk.size(); ++at) {
                worst_error = std::max(worst_error, std::abs(decoded[at] - chunk[at]));
            }
            contract.invert_actions(std::span<const double>(decoded), shape.dim, start, actions, shape).value();
            queue.put(actions, since).value();
        }
        const PioxideTaken taken = queue.take(joints).value();
        ++kinds[taken];
        if (taken == PIOXIDE_TAKEN_NOTHING) {
            safety.hold().value();
        } else {
            limited += safety.apply(joints).value() != 0;
            // write: `joints` to the motors
        }
        slowest = std::max(slowest, Clock::now() - began);
        due += std::chrono::microseconds(1000);
        std::this_thread::sleep_until(due);
    }

    std::printf("pioxide %s: a prompt of %zu ids, answers of %zu tokens, at most %.3f off\n", pioxide_version(),
                prompt_length, id_count, worst_error);
    std::printf("%d ticks: %zu fresh, %zu held, %zu limited; the slowest took %.1f us of 1000\n", ticks,
                kinds[PIOXIDE_TAKEN_FRESH], kinds[PIOXIDE_TAKEN_HELD], limited,
                std::chrono::duration<double, std::micro>(slowest).count());
    // Looking at a failure without throwing: a state that is no number is refused, and named.
    joints[3] = std::nan("");
    const auto refused = contract.apply_state(std::span<const double>(joints), normalised);
    if (refused || refused.failure().status != PIOXIDE_STATUS_NOT_FINITE) {
        return 1;
    }
    std::printf("refused: %s\n", refused.failure().message);
    return kinds[PIOXIDE_TAKEN_FRESH] == static_cast<std::size_t>(ticks) && worst_error < 0.02 ? 0 : 1;
}

} // namespace

int main(int count, char** arguments) {
    if (count < 2) {
        std::fprintf(stderr, "usage: %s TEXT_MODEL [SECONDS]\n", arguments[0]);
        return 2;
    }
    try {
        return run(arguments[1], count > 2 ? std::atof(arguments[2]) : 2.0);
    } catch (const pioxide::Error& error) {
        std::fprintf(stderr, "pioxide: %s\n", error.what());
        return 1;
    }
}
