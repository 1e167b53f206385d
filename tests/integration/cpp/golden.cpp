// Writes what the library makes of the files in a directory, for tests/integration/test_cpp.py to compare:
//   golden DIR TEXT_MODEL HORIZON DIM

#include <pioxide.hpp>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

std::string content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<double> numbers(const std::string& path) {
    const std::string bytes = content(path);
    std::vector<double> values(bytes.size() / sizeof(double));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
    return values;
}

void append(std::ofstream& file, std::span<const double> values) {
    const auto bytes = std::as_bytes(values);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

template <class T>
void line(const char* name, std::span<T> ids) {
    std::printf("%s", name);
    for (const auto id : ids) {
        std::printf(" %lld", static_cast<long long>(id));
    }
    std::printf("\n");
}

void codec(const std::string& dir, pioxide::Shape shape) {
    auto scratch = pioxide::Scratch::make().value();
    const auto codec = pioxide::Codec::from_directory(dir).value();
    const auto chunks = numbers(dir + "/chunks.f64");
    std::vector<std::uint32_t> room(4 * shape.size());
    std::vector<double> actions(shape.size());
    std::ofstream decoded(dir + "/decoded.f64", std::ios::binary);
    for (std::size_t at = 0; at < chunks.size(); at += shape.size()) {
        const auto chunk = std::span(chunks).subspan(at, shape.size());
        const auto encoded = codec.encode(scratch, chunk, shape, room, PIOXIDE_ON_OVERFLOW_CLIP).value();
        line("ids", encoded.ids);
        codec.decode(scratch, encoded.ids, shape, actions).value();
        append(decoded, actions);
        const std::vector<float> narrow(chunk.begin(), chunk.end());
        line("single", codec.encode(scratch, std::span<const float>(narrow), shape, room, PIOXIDE_ON_OVERFLOW_CLIP)
                           .value()
                           .ids);
    }
}

void prompts(const std::string& dir, const std::string& model) {
    auto scratch = pioxide::Scratch::make().value();
    const auto text = pioxide::Text::from_bytes(content(model)).value();
    const auto task = content(dir + "/task.txt");
    const auto state = numbers(dir + "/state.f64");
    std::vector<std::uint32_t> room(task.size() + 8);
    const auto ids = text.encode(scratch, task, room).value();
    line("text", ids);
    if (text.decode(ids).value() != task) {
        std::printf("decoded to another text\n");
    }
    for (const PioxideFamily family : {PIOXIDE_FAMILY_PI0, PIOXIDE_FAMILY_PI05, PIOXIDE_FAMILY_PI0_FAST}) {
        PioxidePromptOptions options{};
        options.family = family;
        if (family == PIOXIDE_FAMILY_PI0_FAST) {
            options.fast_vocab = 1024;
            options.fast_skipped = 128;
        }
        const auto made = pioxide::Prompts::make(text, options).value();
        std::vector<std::int32_t> tokens(200);
        std::vector<std::uint8_t> mask(200);
        const auto seen = std::span(state).first(family == PIOXIDE_FAMILY_PI0 ? 0 : state.size());
        const auto length = made.write(made.tokenize(task).value(), seen, tokens, mask).value();
        line("prompt", std::span(tokens).first(length));
    }
    for (const std::uint32_t without : {0U, 1U}) {
        PioxideSubtaskOptions options{};
        options.without_state = without;
        const auto made = pioxide::Prompts::subtasks(text, options).value();
        std::vector<std::int32_t> tokens(200);
        std::vector<std::uint8_t> mask(200);
        const auto seen = std::span(state).first(without == 1 ? 0 : state.size());
        const auto length = made.write(made.tokenize(task).value(), seen, tokens, mask).value();
        line("question", std::span(tokens).first(length));
        const auto answer = made.answer(task, tokens).value();
        line("answer", answer);
        if (made.read_subtask(answer).value() != task || made.read_subtask(answer.first(2))) {
            std::printf("read as another subtask\n");
        }
    }
    std::vector<std::int16_t> bins(state.size());
    pioxide::state_bins(state, bins).value();
    line("bins", std::span(bins));
}

void contract(const std::string& dir, const std::string& model) {
    const auto contract = pioxide::Contract::from_file(dir).value();
    const auto info = contract.info().value();
    const pioxide::Shape shape{info.horizon, info.action_dim};
    std::printf("contract %zu %zu %zu %g\n", info.state_dim, info.action_dim, info.text_len, info.hz);
    std::printf("joint %s\n", contract.text(PIOXIDE_CONTRACT_TEXT_JOINT_NAME, 5).value().c_str());
    const auto state = numbers(dir + "/robot_state.f64"), wide = numbers(dir + "/answer.f64");
    std::vector<double> normalised(state.size()), actions(shape.size()), chunk(shape.size());
    contract.apply_state(std::span<const double>(state), normalised).value();
    const std::vector<float> answer(wide.begin(), wide.end());
    contract.invert_actions(std::span<const float>(answer), answer.size() / shape.horizon, state, actions, shape).value();
    contract.apply_actions(actions, shape, state, chunk).value();
    std::ofstream file(dir + "/contract.f64", std::ios::binary);
    append(file, normalised), append(file, actions), append(file, chunk);

    const auto text = pioxide::Text::from_file(model).value();
    const auto prompts = pioxide::Prompts::make(text, contract).value();
    const auto questions = pioxide::Prompts::subtasks(text, contract);
    std::printf("subtasks %s\n", questions ? "learnt" : questions.failure().message);
    auto batches = pioxide::Batches::make(prompts, 8).value();
    const std::string tasks = "fold" "hand over" "fold";
    const std::array<std::size_t, 3> ends{4, 13, 17};
    std::vector<double> states;
    for (std::size_t row = 0; row < ends.size(); ++row) {
        states.insert(states.end(), normalised.begin(), normalised.end());
    }
    std::vector<std::int32_t> tokens(3 * info.text_len), lengths(3);
    std::vector<std::uint8_t> mask(3 * info.text_len), truncated(3);
    batches.encode(tasks, ends, states, {tokens, mask, lengths, truncated}).value();
    for (std::size_t row = 0; row < ends.size(); ++row) {
        line("batch", std::span(tokens).subspan(row * info.text_len, static_cast<std::size_t>(lengths[row])));
    }
}

void control(const std::string& dir, pioxide::Shape shape) {
    const auto chunks = numbers(dir + "/chunks.f64");
    PioxideQueueOptions options{};
    options.dim = shape.dim;
    options.most = shape.horizon;
    options.on_empty = PIOXIDE_ON_EMPTY_SLOW;
    options.slow_below = 5;
    auto queue = pioxide::Queue::make(options).value();
    queue.put(std::span(chunks).first(shape.size()), 0.0).value();
    constexpr std::array low{-0.5}, high{0.6}, velocity{2.0}, acceleration{30.0};
    auto safety = pioxide::Safety::make(shape.dim, 50.0, {low, high, velocity, acceleration}).value();
    std::vector<double> action(shape.dim);
    safety.reset(action).value();
    std::ofstream played(dir + "/played.f64", std::ios::binary), given(dir + "/given.f64", std::ios::binary);
    for (std::size_t tick = 0; tick < shape.horizon + 8; ++tick) {
        queue.take(action).value();
        append(played, action);
        safety.apply(action).value();
        append(given, action);
    }
}

} // namespace

int main(int, char** arguments) {
    const std::string dir = arguments[1];
    const pioxide::Shape shape{std::stoul(arguments[3]), std::stoul(arguments[4])};
    codec(dir, shape);
    prompts(dir, arguments[2]);
    contract(dir, arguments[2]);
    control(dir, shape);
    try {
        pioxide::Codec::from_directory("/no/such").value();
    } catch (const pioxide::Error& error) {
        std::printf("thrown %u %s\n", static_cast<unsigned>(error.status()), error.what());
    }
}
