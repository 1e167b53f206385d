// Calls every function of pioxide.h once or more, well and badly, in buffers of just the size that each call says, so that
// valgrind or a sanitizer sees what is read or written beyond them, and what is not freed:
//   every DIR TEXT_MODEL        DIR holds a FAST tokenizer and a contract of π0.5 that learnt subtasks

#include <pioxide.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<std::uint8_t>;
using Ids = std::vector<std::uint32_t>;
using Tokens = std::vector<std::int32_t>;
using Numbers = std::vector<double>;

void expect(PioxideStatus status, PioxideStatus expected, int line) {
    if (status != expected) {
        std::fprintf(stderr, "line %d: status %u, expected %u: %s\n", line, static_cast<unsigned>(status),
                     static_cast<unsigned>(expected), pioxide_last_error());
        std::exit(1);
    }
}

#define OK(call) expect(call, PIOXIDE_STATUS_OK, __LINE__)
#define FAILS(status, call) expect(call, PIOXIDE_STATUS_##status, __LINE__)

Bytes content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

Bytes bytes(const char* text) { return {text, text + std::strlen(text)}; }

std::vector<float> narrow(const Numbers& values) { return {values.begin(), values.end()}; }

constexpr std::size_t horizon = 16, dim = 4;

Numbers chunks(std::size_t count) {
    Numbers values(count * horizon * dim);
    for (std::size_t at = 0; at < values.size(); ++at) {
        values[at] = static_cast<double>(at * 37 % 101) / 60.0 - 0.8;
    }
    return values;
}

Ids codec(const std::string& dir, PioxideCodec** kept, const PioxideScratch* scratch) {
    PioxideCodec* codec = nullptr;
    const Bytes vocabulary = content(dir + "/tokenizer.json"), config = content(dir + "/processor_config.json");
    OK(pioxide_codec_from_bytes(vocabulary.data(), vocabulary.size(), config.data(), config.size(), &codec));
    pioxide_codec_free(codec);
    FAILS(FORMAT, pioxide_codec_from_bytes(config.data(), config.size(), config.data(), config.size(), &codec));
    OK(pioxide_codec_from_directory(dir.c_str(), &codec));
    pioxide_codec_free(codec);
    FAILS(IO, pioxide_codec_from_directory("/no/such", &codec));

    const Numbers seen = chunks(8);
    FAILS(INVALID_ARGUMENT, pioxide_codec_fit(seen.data(), 8, horizon, dim, 1, 10.0, &codec));
    OK(pioxide_codec_fit(seen.data(), 8, horizon, dim, 300, 10.0, &codec));
    PioxideCodecInfo info{};
    FAILS(INVALID_ARGUMENT, pioxide_codec_info(codec, &info));
    info.struct_size = sizeof info;
    OK(pioxide_codec_info(codec, &info));
    OK(pioxide_codec_prepare(codec, scratch, horizon, dim));

    const Numbers one = chunks(1);
    std::size_t count = 0, clipped = 0, missing = 0;
    FAILS(BUFFER_TOO_SMALL, pioxide_codec_encode_f64(codec, scratch, one.data(), horizon, dim, PIOXIDE_ON_OVERFLOW_CLIP,
                                                     nullptr, 0, &count, &clipped));
    Ids ids(count), same(count);
    OK(pioxide_codec_encode_f64(codec, scratch, one.data(), horizon, dim, PIOXIDE_ON_OVERFLOW_CLIP, ids.data(), count,
                                &count, &clipped));
    OK(pioxide_codec_encode_f32(codec, scratch, narrow(one).data(), horizon, dim, PIOXIDE_ON_OVERFLOW_CLIP, same.data(),
                                same.size(), &count, nullptr));
    const Numbers huge(horizon * dim, 1e9);
    FAILS(OVERFLOW, pioxide_codec_encode_f64(codec, scratch, huge.data(), horizon, dim, PIOXIDE_ON_OVERFLOW_ERROR,
                                             ids.data(), ids.size(), &count, nullptr));
    Numbers actions(horizon * dim);
    OK(pioxide_codec_decode(codec, scratch, ids.data(), ids.size(), PIOXIDE_PARTIAL_ERROR, actions.data(), horizon, dim,
                            nullptr));
    OK(pioxide_codec_decode(codec, scratch, ids.data(), ids.size() - 1, PIOXIDE_PARTIAL_PAD, actions.data(), horizon, dim,
                            &missing));
    FAILS(INCOMPLETE, pioxide_codec_decode(codec, scratch, ids.data(), ids.size() - 1, PIOXIDE_PARTIAL_ERROR,
                                           actions.data(), horizon, dim, nullptr));
    *kept = codec;
    return ids;
}

void text(const std::string& path, PioxideText** kept, const PioxideScratch* scratch) {
    PioxideText* text = nullptr;
    const Bytes model = content(path), line = bytes("pick up the red cube, 世界");
    OK(pioxide_text_from_bytes(model.data(), model.size(), &text));
    pioxide_text_free(text);
    FAILS(FORMAT, pioxide_text_from_bytes(line.data(), line.size(), &text));
    FAILS(IO, pioxide_text_from_file("/no/such", &text));
    OK(pioxide_text_from_file(path.c_str(), &text));
    PioxideTextInfo info{};
    info.struct_size = sizeof info;
    OK(pioxide_text_info(text, &info));
    std::size_t count = 0, len = 0;
    FAILS(BUFFER_TOO_SMALL, pioxide_text_encode(text, scratch, line.data(), line.size(), nullptr, 0, &count));
    Ids ids(count);
    OK(pioxide_text_encode(text, scratch, line.data(), line.size(), ids.data(), count, &count));
    Bytes back(line.size());
    OK(pioxide_text_decode(text, ids.data(), count, back.data(), back.size(), &len));
    FAILS(BUFFER_TOO_SMALL, pioxide_text_decode(text, ids.data(), count, back.data(), 3, &len));
    *kept = text;
}

void prompts(const PioxideText* text, const Ids& actions, const PioxideScratch* scratch) {
    PioxidePromptOptions options{};
    options.struct_size = sizeof options;
    options.family = PIOXIDE_FAMILY_PI0_FAST;
    options.fast_vocab = 300;
    options.fast_skipped = 128;
    PioxidePrompts* prompts = nullptr;
    PioxideInstruction* instruction = nullptr;
    OK(pioxide_prompts_new(text, &options, &prompts));
    const Bytes task = bytes("fold the towel"), broken{0xff, 0xc0};
    FAILS(INVALID_ARGUMENT, pioxide_prompts_tokenize(prompts, broken.data(), broken.size(), &instruction));
    OK(pioxide_prompts_tokenize(prompts, task.data(), task.size(), &instruction));
    const Numbers state{0.5, -0.25, 1.5};
    std::size_t length = 0, count = 0;
    for (const std::size_t len : {std::size_t{60}, std::size_t{5}, std::size_t{0}}) {
        Tokens tokens(len), ar_mask(len);
        Bytes mask(len), loss_mask(len);
        OK(pioxide_prompts_write_f64(prompts, instruction, state.data(), 3, tokens.data(), mask.data(), len, &length));
        OK(pioxide_prompts_write_f32(prompts, instruction, narrow(state).data(), 3, tokens.data(), mask.data(), len,
                                     &length));
        OK(pioxide_prompts_write_training_f64(prompts, instruction, state.data(), 3, actions.data(), actions.size(),
                                              tokens.data(), mask.data(), ar_mask.data(), loss_mask.data(), len, &length));
    }
    Tokens answer(actions.size());
    OK(pioxide_prompts_text_ids(prompts, actions.data(), actions.size(), answer.data()));
    Ids found(actions.size());
    OK(pioxide_prompts_fast_ids(prompts, scratch, answer.data(), answer.size(), 1, found.data(), found.size(), &count));
    FAILS(NO_ACTIONS,
          pioxide_prompts_fast_ids(prompts, scratch, answer.data(), answer.size(), 0, found.data(), found.size(), &count));
    FAILS(BUFFER_TOO_SMALL, pioxide_prompts_answer_start(prompts, nullptr, 0, &count));
    Tokens start(count);
    OK(pioxide_prompts_answer_start(prompts, start.data(), count, &count));
    FAILS(BUFFER_TOO_SMALL, pioxide_prompts_answer_end(prompts, nullptr, 0, &count));
    Tokens end(count);
    OK(pioxide_prompts_answer_end(prompts, end.data(), count, &count));
    pioxide_instruction_free(instruction);
    pioxide_prompts_free(prompts);
}

void contract(const std::string& dir, const PioxideText* text, const PioxideCodec* codec) {
    PioxideContract* contract = nullptr;
    const Bytes json = content(dir + "/contract.json");
    FAILS(FORMAT, pioxide_contract_from_bytes(json.data(), json.size() / 2, &contract));
    OK(pioxide_contract_from_bytes(json.data(), json.size(), &contract));
    pioxide_contract_free(contract);
    OK(pioxide_contract_from_file(dir.c_str(), &contract));
    PioxideContractInfo info{};
    info.struct_size = sizeof info;
    OK(pioxide_contract_info(contract, &info));
    std::size_t len = 0;
    Bytes name(8);
    for (std::uint32_t which = 0; which <= PIOXIDE_CONTRACT_TEXT_ACTION_SHA256; ++which) {
        OK(pioxide_contract_text(contract, which, 0, nullptr, 0, &len) == PIOXIDE_STATUS_OK
               ? PIOXIDE_STATUS_OK
               : pioxide_contract_text(contract, which, 0, (name = Bytes(len)).data(), len, &len));
    }
    FAILS(INVALID_ARGUMENT, pioxide_contract_check_codec(contract, codec));

    const Numbers state(info.state_dim, 0.25);
    Numbers normalised(state.size());
    OK(pioxide_contract_apply_state_f64(contract, state.data(), state.size(), normalised.data()));
    OK(pioxide_contract_apply_state_f32(contract, narrow(state).data(), state.size(), normalised.data()));
    const std::size_t width = info.action_dim + 2;
    const Numbers wide(info.horizon * width, 0.5);
    Numbers actions(info.horizon * info.action_dim), again(actions.size());
    OK(pioxide_contract_invert_actions_f64(contract, wide.data(), info.horizon, width, state.data(), state.size(),
                                           actions.data(), info.action_dim));
    OK(pioxide_contract_invert_actions_f32(contract, narrow(wide).data(), info.horizon, width, state.data(), state.size(),
                                           actions.data(), info.action_dim));
    OK(pioxide_contract_apply_actions_f64(contract, actions.data(), info.horizon, info.action_dim, state.data(),
                                          state.size(), again.data()));
    const Numbers no_number(info.state_dim, HUGE_VAL);
    FAILS(NOT_FINITE, pioxide_contract_apply_state_f64(contract, no_number.data(), no_number.size(), normalised.data()));

    PioxidePrompts* prompts = nullptr;
    PioxideBatches* batches = nullptr;
    OK(pioxide_prompts_from_contract(text, contract, &prompts));
    FAILS(INVALID_ARGUMENT, pioxide_batches_new(prompts, 0, &batches));
    OK(pioxide_batches_new(prompts, 2, &batches));
    pioxide_prompts_free(prompts);
    const std::size_t count = 3, row = info.text_len;
    for (const char* tasks : {"foldhand overfold", "packhand overfold"}) {
        const Bytes texts = bytes(tasks);
        const std::vector<std::size_t> ends{4, 13, texts.size()};
        const Numbers states(count * info.state_dim, 0.5);
        Tokens tokens(count * row), lengths(count);
        Bytes mask(count * row), truncated(count);
        OK(pioxide_batches_encode_f64(batches, texts.data(), ends.data(), count, states.data(), info.state_dim,
                                      tokens.data(), mask.data(), row, lengths.data(), truncated.data()));
        FAILS(INVALID_ARGUMENT, pioxide_batches_encode_f64(batches, texts.data(), ends.data(), count, states.data(),
                                                           info.state_dim, tokens.data(), mask.data(), row,
                                                           tokens.data(), truncated.data()));
    }
    pioxide_batches_free(batches);
    OK(pioxide_subtasks_from_contract(text, contract, &prompts));
    pioxide_prompts_free(prompts);
    pioxide_contract_free(contract);
}

void subtasks(const PioxideText* text) {
    PioxideSubtaskOptions options{};
    options.struct_size = sizeof options;
    options.state_width = 5;
    PioxidePrompts* prompts = nullptr;
    OK(pioxide_subtasks_new(text, &options, &prompts));
    const Bytes said = bytes("pick up the cup");
    std::size_t count = 0, len = 0;
    FAILS(BUFFER_TOO_SMALL, pioxide_subtasks_answer(prompts, said.data(), said.size(), nullptr, 0, &count));
    Tokens tokens(count);
    OK(pioxide_subtasks_answer(prompts, said.data(), said.size(), tokens.data(), count, &count));
    Bytes back(said.size());
    OK(pioxide_subtasks_read(prompts, tokens.data(), count, back.data(), back.size(), &len));
    FAILS(NO_SUBTASK, pioxide_subtasks_read(prompts, tokens.data(), count - 1, back.data(), back.size(), &len));
    pioxide_prompts_free(prompts);
}

void control() {
    PioxideQueueOptions options{};
    options.struct_size = sizeof options;
    options.dim = dim;
    options.most = horizon;
    options.on_empty = PIOXIDE_ON_EMPTY_SLOW;
    options.slow_below = 3;
    PioxideQueue* queue = nullptr;
    OK(pioxide_queue_new(&options, &queue));
    const Numbers chunk = chunks(1);
    double delay = 0;
    OK(pioxide_queue_put(queue, chunk.data(), horizon, dim, 0.0, &delay));
    FAILS(INVALID_ARGUMENT, pioxide_queue_put(queue, chunk.data(), horizon, dim - 1, 0.0, nullptr));
    Numbers left(horizon * dim), action(dim);
    std::size_t count = 0;
    OK(pioxide_queue_leftover(queue, left.data(), left.size(), &count));

    PioxideSafetyOptions limits{};
    const Numbers low(dim, -0.5), velocity{2.0};
    limits.struct_size = sizeof limits;
    limits.dim = dim;
    limits.hz = 50.0;
    limits.low = low.data(), limits.low_len = dim;
    limits.velocity = velocity.data(), limits.velocity_len = 1;
    PioxideSafety* safety = nullptr;
    OK(pioxide_safety_new(&limits, &safety));
    OK(pioxide_safety_reset(safety, action.data(), dim));
    std::uint32_t taken = 0, violations = 0;
    Numbers given(dim);
    for (std::size_t tick = 0; tick < horizon + 9; ++tick) {
        OK(pioxide_queue_take(queue, action.data(), dim, &taken));
        OK(pioxide_safety_apply(safety, action.data(), given.data(), dim, &violations));
    }
    OK(pioxide_safety_hold(safety));
    PioxideQueueInfo info{};
    info.struct_size = sizeof info;
    OK(pioxide_queue_info(queue, &info));
    OK(pioxide_queue_clear(queue));
    pioxide_queue_free(queue);
    pioxide_safety_free(safety);

    std::vector<std::int16_t> bins(dim);
    OK(pioxide_state_bins_f64(chunk.data(), dim, bins.data()));
    OK(pioxide_state_bins_f32(narrow(chunk).data(), dim, bins.data()));
    FAILS(INVALID_ARGUMENT, pioxide_state_bins_f64(nullptr, dim, bins.data()));
}

} // namespace

int main(int, char** arguments) {
    PioxideScratch* scratch = nullptr;
    PioxideCodec* fitted = nullptr;
    PioxideText* vocabulary = nullptr;
    OK(pioxide_scratch_new(&scratch));
    const Ids ids = codec(arguments[1], &fitted, scratch);
    text(arguments[2], &vocabulary, scratch);
    prompts(vocabulary, ids, scratch);
    contract(arguments[1], vocabulary, fitted);
    subtasks(vocabulary);
    control();
    pioxide_codec_free(fitted);
    pioxide_text_free(vocabulary);
    pioxide_scratch_free(scratch);
    std::printf("pioxide %s, ABI %u: every call ended as it is to\n", pioxide_version(),
                static_cast<unsigned>(pioxide_abi_version()));
}
