/* pioxide for C++20: owning handles and std::span over pioxide.h, which says what each call does.
 *
 * A call that can fail returns a Result: `.value()` takes what it holds or throws pioxide::Error, `if (result)` and
 * `.failure()` look without throwing. Neither allocates until something is thrown. Without exceptions `.value()` of a
 * failure ends the program with its sentence.
 *
 * Handles move and don't copy. Threads as in pioxide.h: Contract, Codec, Text, Prompts and Instruction may be shared;
 * Scratch, Batches, Queue and Safety are for one thread at a time. A const member function says that it may be called by many threads.
 */
#ifndef PIOXIDE_HPP
#define PIOXIDE_HPP

#include "pioxide.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pioxide {

/// Why a call failed.
struct Failure {
    PioxideStatus status = PIOXIDE_STATUS_OK;
    char message[256] = {};
};

/// The same, thrown.
class Error : public std::runtime_error {
public:
    explicit Error(const Failure& failure) : std::runtime_error(failure.message), status_(failure.status) {}

    PioxideStatus status() const noexcept { return status_; }

private:
    PioxideStatus status_;
};

/// What a call gave, or why it failed.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(const Failure& failure) : failure_(failure) {}

    explicit operator bool() const noexcept { return value_.has_value(); }
    const Failure& failure() const noexcept { return failure_; }

    T& value() & { return require(), *value_; }
    T value() && { return require(), std::move(*value_); }

private:
    void require() const {
        if (!value_) {
#if defined(__cpp_exceptions)
            throw Error(failure_);
#else
            std::fprintf(stderr, "pioxide: %s\n", failure_.message);
            std::abort();
#endif
        }
    }

    std::optional<T> value_;
    Failure failure_;
};

/// What a call gives that has nothing to give.
struct Done {};

namespace detail {

/// The failure that this thread's last call ended in.
inline Failure failure(PioxideStatus status) {
    Failure failure{status, {}};
    std::strncpy(failure.message, pioxide_last_error(), sizeof failure.message - 1);
    return failure;
}

template <class T>
Result<T> result(PioxideStatus status, T value) {
    if (status == PIOXIDE_STATUS_OK) {
        return value;
    }
    return failure(status);
}

inline Result<Done> done(PioxideStatus status) { return result(status, Done{}); }

template <auto free>
struct Free {
    template <class T>
    void operator()(T* handle) const noexcept {
        free(handle);
    }
};

template <class T, auto free>
using Owned = std::unique_ptr<T, Free<free>>;

/// Makes an object of class C around a new handle.
template <class C, class T, class Make>
Result<C> make(Make call) {
    T* handle = nullptr;
    if (PioxideStatus status = call(&handle); status != PIOXIDE_STATUS_OK) {
        return failure(status);
    }
    return C(handle);
}

inline const std::uint8_t* bytes(std::string_view text) {
    return reinterpret_cast<const std::uint8_t*>(text.data());
}

/// A text from a call that writes it to a room and says how long it is.
template <class Call>
Result<std::string> text(Call call) {
    std::string text;
    for (;;) {
        std::size_t needed = 0;
        PioxideStatus status = call(reinterpret_cast<std::uint8_t*>(text.data()), text.size(), &needed);
        if (status != PIOXIDE_STATUS_OK && status != PIOXIDE_STATUS_BUFFER_TOO_SMALL) {
            return failure(status);
        }
        text.resize(needed);
        if (status == PIOXIDE_STATUS_OK) {
            return text;
        }
    }
}

} // namespace detail

/// Whether the library that was loaded is of the kind that this header describes.
inline bool abi_matches() { return pioxide_abi_version() == PIOXIDE_ABI_VERSION; }

/// A chunk's shape.
struct Shape {
    std::size_t horizon = 0;
    std::size_t dim = 0;

    std::size_t size() const { return horizon * dim; }
};

/// Room to work in, one a thread.
class Scratch {
public:
    static Result<Scratch> make() {
        return detail::make<Scratch, PioxideScratch>([](auto out) { return pioxide_scratch_new(out); });
    }

    PioxideScratch* get() const { return handle_.get(); }
    explicit Scratch(PioxideScratch* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideScratch, pioxide_scratch_free> handle_;
};

/// A FAST tokenizer.
class Codec {
public:
    struct Encoded {
        std::span<std::uint32_t> ids;
        std::size_t clipped;
    };

    static Result<Codec> from_bytes(std::string_view tokenizer_json, std::string_view processor_config) {
        return detail::make<Codec, PioxideCodec>([&](auto out) {
            return pioxide_codec_from_bytes(detail::bytes(tokenizer_json), tokenizer_json.size(),
                                            detail::bytes(processor_config), processor_config.size(), out);
        });
    }

    static Result<Codec> from_directory(const std::string& path) {
        return detail::make<Codec, PioxideCodec>(
            [&](auto out) { return pioxide_codec_from_directory(path.c_str(), out); });
    }

    /// Fits one to normalised chunks, end to end.
    static Result<Codec> fit(std::span<const double> chunks, Shape shape, std::size_t vocab_size, double scale = 10.0) {
        std::size_t count = shape.size() == 0 ? 0 : chunks.size() / shape.size();
        if (count * shape.size() != chunks.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "chunks: their numbers are not whole chunks"};
        }
        return detail::make<Codec, PioxideCodec>([&](auto out) {
            return pioxide_codec_fit(chunks.data(), count, shape.horizon, shape.dim, vocab_size, scale, out);
        });
    }

    Result<PioxideCodecInfo> info() const {
        PioxideCodecInfo info{};
        info.struct_size = sizeof info;
        PioxideStatus status = pioxide_codec_info(get(), &info);
        return detail::result(status, info);
    }

    /// Makes room, so that not even the first call in a loop allocates.
    Result<Done> prepare(Scratch& scratch, Shape shape) const {
        return detail::done(pioxide_codec_prepare(get(), scratch.get(), shape.horizon, shape.dim));
    }

    /// Encodes into `room`; 4 * shape.size() is always enough.
    template <class T>
        requires std::is_same_v<T, float> || std::is_same_v<T, double>
    Result<Encoded> encode(Scratch& scratch, std::span<const T> chunk, Shape shape, std::span<std::uint32_t> room,
                           PioxideOnOverflow on_overflow = PIOXIDE_ON_OVERFLOW_ERROR) const {
        if (chunk.size() != shape.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "chunk: it does not have its shape's numbers"};
        }
        std::size_t count = 0, clipped = 0;
        PioxideStatus status;
        if constexpr (std::is_same_v<T, float>) {
            status = pioxide_codec_encode_f32(get(), scratch.get(), chunk.data(), shape.horizon, shape.dim, on_overflow,
                                              room.data(), room.size(), &count, &clipped);
        } else {
            status = pioxide_codec_encode_f64(get(), scratch.get(), chunk.data(), shape.horizon, shape.dim, on_overflow,
                                              room.data(), room.size(), &count, &clipped);
        }
        if (status != PIOXIDE_STATUS_OK) {
            return detail::failure(status);
        }
        return Encoded{room.first(count), clipped};
    }

    /// Decodes into `actions`; gives how many coefficients were missing.
    Result<std::size_t> decode(Scratch& scratch, std::span<const std::uint32_t> ids, Shape shape,
                               std::span<double> actions, PioxidePartial partial = PIOXIDE_PARTIAL_ERROR) const {
        if (actions.size() != shape.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "actions: they do not have their shape's numbers"};
        }
        std::size_t missing = 0;
        PioxideStatus status = pioxide_codec_decode(get(), scratch.get(), ids.data(), ids.size(), partial,
                                                    actions.data(), shape.horizon, shape.dim, &missing);
        return detail::result(status, missing);
    }

    PioxideCodec* get() const { return handle_.get(); }
    explicit Codec(PioxideCodec* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideCodec, pioxide_codec_free> handle_;
};

/// What a policy's numbers mean.
class Contract {
public:
    static Result<Contract> from_bytes(std::string_view json) {
        return detail::make<Contract, PioxideContract>(
            [&](auto out) { return pioxide_contract_from_bytes(detail::bytes(json), json.size(), out); });
    }

    /// The file, or its directory.
    static Result<Contract> from_file(const std::string& path) {
        return detail::make<Contract, PioxideContract>(
            [&](auto out) { return pioxide_contract_from_file(path.c_str(), out); });
    }

    Result<PioxideContractInfo> info() const {
        PioxideContractInfo info{};
        info.struct_size = sizeof info;
        PioxideStatus status = pioxide_contract_info(get(), &info);
        return detail::result(status, info);
    }

    /// One of its texts; allocates.
    Result<std::string> text(PioxideContractText which, std::size_t index = 0) const {
        return detail::text([&](std::uint8_t* room, std::size_t capacity, std::size_t* needed) {
            return pioxide_contract_text(get(), which, index, room, capacity, needed);
        });
    }

    /// Refuses a codec whose ids mean other actions.
    Result<Done> check(const Codec& codec) const {
        return detail::done(pioxide_contract_check_codec(get(), codec.get()));
    }

    /// Normalises a state in the robot's units.
    template <class T>
        requires std::is_same_v<T, float> || std::is_same_v<T, double>
    Result<Done> apply_state(std::span<const T> state, std::span<double> normalised) const {
        if (normalised.size() != state.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "normalised: it is not as long as the state"};
        }
        if constexpr (std::is_same_v<T, float>) {
            return detail::done(pioxide_contract_apply_state_f32(get(), state.data(), state.size(), normalised.data()));
        } else {
            return detail::done(pioxide_contract_apply_state_f64(get(), state.data(), state.size(), normalised.data()));
        }
    }

    /// Normalises a chunk in the robot's units that begins at `state`.
    Result<Done> apply_actions(std::span<const double> actions, Shape shape, std::span<const double> state,
                               std::span<double> normalised) const {
        if (actions.size() != shape.size() || normalised.size() != shape.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "actions: they do not have their shape's numbers"};
        }
        return detail::done(pioxide_contract_apply_actions_f64(get(), actions.data(), shape.horizon, shape.dim,
                                                               state.data(), state.size(), normalised.data()));
    }

    /// Brings a model's answer, whose rows may be wider than an action, to actions in the robot's units.
    template <class T>
        requires std::is_same_v<T, float> || std::is_same_v<T, double>
    Result<Done> invert_actions(std::span<const T> answer, std::size_t width, std::span<const double> state,
                                std::span<double> actions, Shape shape) const {
        if (answer.size() != shape.horizon * width || actions.size() != shape.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "answer: it does not have its shape's numbers"};
        }
        if constexpr (std::is_same_v<T, float>) {
            return detail::done(pioxide_contract_invert_actions_f32(get(), answer.data(), shape.horizon, width,
                                                                    state.data(), state.size(), actions.data(),
                                                                    shape.dim));
        } else {
            return detail::done(pioxide_contract_invert_actions_f64(get(), answer.data(), shape.horizon, width,
                                                                    state.data(), state.size(), actions.data(),
                                                                    shape.dim));
        }
    }

    PioxideContract* get() const { return handle_.get(); }
    explicit Contract(PioxideContract* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideContract, pioxide_contract_free> handle_;
};

/// A SentencePiece vocabulary.
class Text {
public:
    static Result<Text> from_bytes(std::string_view model) {
        return detail::make<Text, PioxideText>(
            [&](auto out) { return pioxide_text_from_bytes(detail::bytes(model), model.size(), out); });
    }

    static Result<Text> from_file(const std::string& path) {
        return detail::make<Text, PioxideText>([&](auto out) { return pioxide_text_from_file(path.c_str(), out); });
    }

    Result<PioxideTextInfo> info() const {
        PioxideTextInfo info{};
        info.struct_size = sizeof info;
        PioxideStatus status = pioxide_text_info(get(), &info);
        return detail::result(status, info);
    }

    /// Encodes into `room`.
    Result<std::span<std::uint32_t>> encode(Scratch& scratch, std::string_view text,
                                            std::span<std::uint32_t> room) const {
        std::size_t count = 0;
        PioxideStatus status = pioxide_text_encode(get(), scratch.get(), detail::bytes(text), text.size(), room.data(),
                                                   room.size(), &count);
        if (status != PIOXIDE_STATUS_OK) {
            return detail::failure(status);
        }
        return room.first(count);
    }

    /// The text of ids; allocates.
    Result<std::string> decode(std::span<const std::uint32_t> ids) const {
        return detail::text([&](std::uint8_t* room, std::size_t capacity, std::size_t* needed) {
            return pioxide_text_decode(get(), ids.data(), ids.size(), room, capacity, needed);
        });
    }

    PioxideText* get() const { return handle_.get(); }
    explicit Text(PioxideText* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideText, pioxide_text_free> handle_;
};

/// An instruction, tokenized once.
class Instruction {
public:
    PioxideInstruction* get() const { return handle_.get(); }
    explicit Instruction(PioxideInstruction* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideInstruction, pioxide_instruction_free> handle_;
};

/// How one model's prompts are written.
class Prompts {
public:
    /// `options.struct_size` is filled in here.
    static Result<Prompts> make(const Text& text, PioxidePromptOptions options) {
        options.struct_size = sizeof options;
        return detail::make<Prompts, PioxidePrompts>(
            [&](auto out) { return pioxide_prompts_new(text.get(), &options, out); });
    }

    /// Those that a contract asks for.
    static Result<Prompts> make(const Text& text, const Contract& contract) {
        return detail::make<Prompts, PioxidePrompts>(
            [&](auto out) { return pioxide_prompts_from_contract(text.get(), contract.get(), out); });
    }

    /// π0.5's questions for a subtask, written by the calls below; `options.struct_size` is filled in here.
    static Result<Prompts> subtasks(const Text& text, PioxideSubtaskOptions options) {
        options.struct_size = sizeof options;
        return detail::make<Prompts, PioxidePrompts>(
            [&](auto out) { return pioxide_subtasks_new(text.get(), &options, out); });
    }

    /// Those that a contract's model learnt.
    static Result<Prompts> subtasks(const Text& text, const Contract& contract) {
        return detail::make<Prompts, PioxidePrompts>(
            [&](auto out) { return pioxide_subtasks_from_contract(text.get(), contract.get(), out); });
    }

    Result<Instruction> tokenize(std::string_view text) const {
        return detail::make<Instruction, PioxideInstruction>([&](auto out) {
            return pioxide_prompts_tokenize(get(), detail::bytes(text), text.size(), out);
        });
    }

    /// Writes one prompt; gives how many ids it has, more than `tokens` where its end did not fit.
    template <class T>
        requires std::is_same_v<T, float> || std::is_same_v<T, double>
    Result<std::size_t> write(const Instruction& instruction, std::span<const T> state, std::span<std::int32_t> tokens,
                              std::span<std::uint8_t> mask) const {
        if (mask.size() != tokens.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "mask: it is not as long as the tokens"};
        }
        std::size_t length = 0;
        PioxideStatus status;
        if constexpr (std::is_same_v<T, float>) {
            status = pioxide_prompts_write_f32(get(), instruction.get(), state.data(), state.size(), tokens.data(),
                                               mask.data(), tokens.size(), &length);
        } else {
            status = pioxide_prompts_write_f64(get(), instruction.get(), state.data(), state.size(), tokens.data(),
                                               mask.data(), tokens.size(), &length);
        }
        return detail::result(status, length);
    }

    /// The FAST ids in what π0-FAST wrote, in `room`; `continued` where it was asked for actions alone.
    Result<std::span<std::uint32_t>> fast_ids(Scratch& scratch, std::span<const std::int32_t> tokens, bool continued,
                                              std::span<std::uint32_t> room) const {
        std::size_t found = 0;
        PioxideStatus status = pioxide_prompts_fast_ids(get(), scratch.get(), tokens.data(), tokens.size(), continued,
                                                        room.data(), room.size(), &found);
        if (status != PIOXIDE_STATUS_OK) {
            return detail::failure(status);
        }
        return room.first(found);
    }

    /// The text ids of FAST ids.
    Result<Done> text_ids(std::span<const std::uint32_t> ids, std::span<std::int32_t> tokens) const {
        if (tokens.size() != ids.size()) {
            return Failure{PIOXIDE_STATUS_SHAPE, "tokens: they are not as many as the ids"};
        }
        return detail::done(pioxide_prompts_text_ids(get(), ids.data(), ids.size(), tokens.data()));
    }

    /// Of questions for a subtask: the ids of an answer, its end included, in `room`.
    Result<std::span<std::int32_t>> answer(std::string_view subtask, std::span<std::int32_t> room) const {
        std::size_t count = 0;
        PioxideStatus status = pioxide_subtasks_answer(get(), detail::bytes(subtask), subtask.size(), room.data(),
                                                       room.size(), &count);
        if (status != PIOXIDE_STATUS_OK) {
            return detail::failure(status);
        }
        return room.first(count);
    }

    /// Of questions for a subtask: the text that generated ids hold up to their end; allocates.
    Result<std::string> read_subtask(std::span<const std::int32_t> tokens) const {
        return detail::text([&](std::uint8_t* room, std::size_t capacity, std::size_t* needed) {
            return pioxide_subtasks_read(get(), tokens.data(), tokens.size(), room, capacity, needed);
        });
    }

    PioxidePrompts* get() const { return handle_.get(); }
    explicit Prompts(PioxidePrompts* handle) : handle_(handle) {}

private:
    detail::Owned<PioxidePrompts, pioxide_prompts_free> handle_;
};

/// Rows of a batch of prompts: `tokens` and `mask` [count, len], the rest [count].
struct PromptRows {
    std::span<std::int32_t> tokens;
    std::span<std::uint8_t> mask;
    std::span<std::int32_t> lengths;
    std::span<std::uint8_t> truncated;
};

/// Batches of prompts, which remember the instructions used last.
class Batches {
public:
    static Result<Batches> make(const Prompts& prompts, std::size_t most) {
        return detail::make<Batches, PioxideBatches>(
            [&](auto out) { return pioxide_batches_new(prompts.get(), most, out); });
    }

    /// Writes a prompt for each of `rows.lengths`: instructions end to end in `text`, each up to its byte of `ends`;
    /// normalised states end to end.
    Result<Done> encode(std::string_view text, std::span<const std::size_t> ends, std::span<const double> states,
                        const PromptRows& rows) {
        const std::size_t count = rows.lengths.size();
        const std::size_t len = count == 0 ? 0 : rows.tokens.size() / count;
        const std::size_t dim = count == 0 ? 0 : states.size() / count;
        if (ends.size() != count || rows.truncated.size() != count || rows.tokens.size() != count * len ||
            rows.mask.size() != count * len || states.size() != count * dim ||
            (count > 0 && ends.back() > text.size())) {
            return Failure{PIOXIDE_STATUS_SHAPE, "rows: they do not fit the instructions and states"};
        }
        return detail::done(pioxide_batches_encode_f64(get(), detail::bytes(text), ends.data(), count, states.data(), dim,
                                                       rows.tokens.data(), rows.mask.data(), len, rows.lengths.data(),
                                                       rows.truncated.data()));
    }

    PioxideBatches* get() const { return handle_.get(); }
    explicit Batches(PioxideBatches* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideBatches, pioxide_batches_free> handle_;
};

/// The actions still to be played.
class Queue {
public:
    /// `options.struct_size` is filled in here.
    static Result<Queue> make(PioxideQueueOptions options) {
        options.struct_size = sizeof options;
        Result<Queue> queue =
            detail::make<Queue, PioxideQueue>([&](auto out) { return pioxide_queue_new(&options, out); });
        if (queue) {
            queue.value().dim_ = options.dim;
        }
        return queue;
    }

    /// A new chunk, row after row; gives how many actions it came late, or nothing where it was dropped.
    Result<std::optional<double>> put(std::span<const double> actions, double since) {
        if (actions.size() % dim_ != 0) {
            return Failure{PIOXIDE_STATUS_SHAPE, "actions: their numbers are not whole actions"};
        }
        double delay = 0;
        PioxideStatus status = pioxide_queue_put(get(), actions.data(), actions.size() / dim_, dim_, since, &delay);
        return detail::result(status, delay < 0 ? std::nullopt : std::optional(delay));
    }

    Result<PioxideTaken> take(std::span<double> action) {
        std::uint32_t taken = PIOXIDE_TAKEN_NOTHING;
        PioxideStatus status = pioxide_queue_take(get(), action.data(), action.size(), &taken);
        return detail::result(status, static_cast<PioxideTaken>(taken));
    }

    /// What is left of the chunk, in `room`.
    Result<std::span<double>> leftover(std::span<double> room) {
        std::size_t count = 0;
        PioxideStatus status = pioxide_queue_leftover(get(), room.data(), room.size(), &count);
        if (status != PIOXIDE_STATUS_OK) {
            return detail::failure(status);
        }
        return room.first(count);
    }

    Result<PioxideQueueInfo> info() {
        PioxideQueueInfo info{};
        info.struct_size = sizeof info;
        PioxideStatus status = pioxide_queue_info(get(), &info);
        return detail::result(status, info);
    }

    Result<Done> clear() { return detail::done(pioxide_queue_clear(get())); }

    PioxideQueue* get() const { return handle_.get(); }
    explicit Queue(PioxideQueue* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideQueue, pioxide_queue_free> handle_;
    std::size_t dim_ = 1;
};

/// Limits by joint, one for all, or none.
struct Limits {
    std::span<const double> low, high, velocity, acceleration;
};

/// Limits that each action passes before the robot.
class Safety {
public:
    static Result<Safety> make(std::size_t dim, double hz, const Limits& limits) {
        PioxideSafetyOptions options{};
        options.struct_size = sizeof options;
        options.dim = dim;
        options.hz = hz;
        options.low = limits.low.data(), options.low_len = limits.low.size();
        options.high = limits.high.data(), options.high_len = limits.high.size();
        options.velocity = limits.velocity.data(), options.velocity_len = limits.velocity.size();
        options.acceleration = limits.acceleration.data(), options.acceleration_len = limits.acceleration.size();
        return detail::make<Safety, PioxideSafety>([&](auto out) { return pioxide_safety_new(&options, out); });
    }

    /// Starts at rest at the measured joints.
    Result<Done> reset(std::span<const double> position) {
        return detail::done(pioxide_safety_reset(get(), position.data(), position.size()));
    }

    Result<Done> hold() { return detail::done(pioxide_safety_hold(get())); }

    /// Limits an action where it stands; gives a sum of PIOXIDE_VIOLATED_*.
    Result<std::uint32_t> apply(std::span<double> action) {
        std::uint32_t violations = 0;
        PioxideStatus status =
            pioxide_safety_apply(get(), action.data(), action.data(), action.size(), &violations);
        return detail::result(status, violations);
    }

    PioxideSafety* get() const { return handle_.get(); }
    explicit Safety(PioxideSafety* handle) : handle_(handle) {}

private:
    detail::Owned<PioxideSafety, pioxide_safety_free> handle_;
};

/// The bins of a normalised state.
inline Result<Done> state_bins(std::span<const double> state, std::span<std::int16_t> bins) {
    if (bins.size() != state.size()) {
        return Failure{PIOXIDE_STATUS_SHAPE, "bins: they are not as many as the joints"};
    }
    return detail::done(pioxide_state_bins_f64(state.data(), state.size(), bins.data()));
}

} // namespace pioxide

#endif
