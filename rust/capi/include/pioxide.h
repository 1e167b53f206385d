/* pioxide for C: contracts, action tokens, text, prompts, action queue and safety filter of the π robot policies.
 *
 * Generated from rust/capi/src by cbindgen; not to be edited. C++ has a header on top of this one, pioxide.hpp.
 *
 * Every call that can fail returns a PioxideStatus; pioxide_last_error() has the sentence for it, by thread. Results
 * go to the caller's buffers, whose capacity is an argument, counted in items. NULL, misaligned, overlong and
 * overlapping buffers are refused; a buffer of no items may be NULL. No Rust panic crosses this border: one would be
 * PIOXIDE_STATUS_INTERNAL. Only where memory for a handle can't be had at all does the process abort.
 *
 * What can't be checked, the caller promises: that a buffer has the items that the call says, that nobody else writes
 * it meanwhile, and that a handle came from the function that makes it and is freed once, after its last use.
 *
 * Threads: a contract, a codec, a text, prompts and an instruction never change and may be shared freely. A scratch,
 * batches, a queue and a safety filter are for one thread at a time, which need not always be the same one: a call that
 * finds one in use fails with PIOXIDE_STATUS_BUSY instead of waiting. No call waits for another thread but, briefly, the
 * first of a scratch with a new horizon.
 *
 * Real time: calls allocate nothing in the steady state, but for those that say so and those that make or free handles.
 * Structs that begin with struct_size may grow: set it to sizeof and zero the rest before filling them in.
 *
 * UTF-8 comes with its length in bytes and needs no NUL. Chunks are row after row: [horizon, dim].
 */

#ifndef PIOXIDE_H
#define PIOXIDE_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of the binary interface that this header describes: programs built with one find the same in a library
 * for as long as it does not change. Structs may grow and functions may be added without a change of it.
 */
#define PIOXIDE_ABI_VERSION 1

/**
 * What a number of PioxideContractInfo is where the contract does not say it.
 */
#define PIOXIDE_NOT_SAID 4294967295

/**
 * A number of the action was NaN, infinite or beyond 1e60: every joint brakes and holds.
 */
#define PIOXIDE_VIOLATED_NOT_FINITE 1

/**
 * Out of the range, or too fast to brake before its end.
 */
#define PIOXIDE_VIOLATED_POSITION 2

/**
 * Too fast.
 */
#define PIOXIDE_VIOLATED_VELOCITY 4

/**
 * Too sudden.
 */
#define PIOXIDE_VIOLATED_ACCELERATION 8

/**
 * How a call ended. `pioxide_last_error` has the sentence.
 */
enum PioxideStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * All went well.
   */
  PIOXIDE_STATUS_OK = 0,
  /**
   * An argument is NULL, misaligned, too long, overlaps another, or lies outside its domain.
   */
  PIOXIDE_STATUS_INVALID_ARGUMENT = 1,
  /**
   * A length does not fit the shape.
   */
  PIOXIDE_STATUS_SHAPE = 2,
  /**
   * A file's content is not what its format says.
   */
  PIOXIDE_STATUS_FORMAT = 3,
  /**
   * A number is NaN or infinite, or too large for what reads it.
   */
  PIOXIDE_STATUS_NOT_FINITE = 4,
  /**
   * A coefficient has no token in this vocabulary.
   */
  PIOXIDE_STATUS_OVERFLOW = 5,
  /**
   * An id that no chunk is encoded to, or that can't stand where it stands.
   */
  PIOXIDE_STATUS_TOKEN = 6,
  /**
   * The ids hold another number of coefficients than the chunk.
   */
  PIOXIDE_STATUS_INCOMPLETE = 7,
  /**
   * The sequence has no `Action: ` in it.
   */
  PIOXIDE_STATUS_NO_ACTIONS = 8,
  /**
   * A token stands where an action belongs and is none.
   */
  PIOXIDE_STATUS_NOT_AN_ACTION = 9,
  /**
   * There is not enough memory.
   */
  PIOXIDE_STATUS_OUT_OF_MEMORY = 10,
  /**
   * The result does not fit: nothing was written but the room that it needs.
   */
  PIOXIDE_STATUS_BUFFER_TOO_SMALL = 11,
  /**
   * A file can't be read.
   */
  PIOXIDE_STATUS_IO = 12,
  /**
   * Another thread is using this handle.
   */
  PIOXIDE_STATUS_BUSY = 13,
  /**
   * The program was built for a newer library and asks for what this one can't do.
   */
  PIOXIDE_STATUS_UNSUPPORTED = 14,
  /**
   * A fault of the library. Free the handles of the call; they are not to be used again.
   */
  PIOXIDE_STATUS_INTERNAL = 15,
  /**
   * What a language model wrote is no subtask: it has no end, or no words before it.
   */
  PIOXIDE_STATUS_NO_SUBTASK = 16,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideStatus PioxideStatus;
#else
typedef uint32_t PioxideStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What encoding does with a coefficient that the vocabulary can't represent.
 */
enum PioxideOnOverflow
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Refuse the chunk.
   */
  PIOXIDE_ON_OVERFLOW_ERROR = 0,
  /**
   * Take the nearest coefficient that can be represented, and count.
   */
  PIOXIDE_ON_OVERFLOW_CLIP = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideOnOverflow PioxideOnOverflow;
#else
typedef uint32_t PioxideOnOverflow;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What decoding does with ids that hold fewer coefficients than the chunk.
 */
enum PioxidePartial
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Refuse them.
   */
  PIOXIDE_PARTIAL_ERROR = 0,
  /**
   * Take the missing ones, which are of the highest frequencies, as zero, and count.
   */
  PIOXIDE_PARTIAL_PAD = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxidePartial PioxidePartial;
#else
typedef uint32_t PioxidePartial;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whose prompts.
 */
enum PioxideFamily
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * π0: the text and a newline. Released models have rows of 48.
   */
  PIOXIDE_FAMILY_PI0 = 0,
  /**
   * π0.5: the text and the state. Released models have rows of 200.
   */
  PIOXIDE_FAMILY_PI05 = 1,
  /**
   * π0-FAST: the text and the state; the actions are tokens of the answer. Released models have rows of 250.
   */
  PIOXIDE_FAMILY_PI0_FAST = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideFamily PioxideFamily;
#else
typedef uint32_t PioxideFamily;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The code base whose prompts are written.
 */
enum PioxideStyle
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * openpi's, and so the released models'.
   */
  PIOXIDE_STYLE_OPENPI = 0,
  /**
   * LeRobot's.
   */
  PIOXIDE_STYLE_LEROBOT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideStyle PioxideStyle;
#else
typedef uint32_t PioxideStyle;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a queue gives when no action is left.
 */
enum PioxideOnEmpty
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The last action again.
   */
  PIOXIDE_ON_EMPTY_HOLD = 0,
  /**
   * Nothing: the loop is to stop.
   */
  PIOXIDE_ON_EMPTY_STOP = 1,
  /**
   * The rest of the chunk at half speed once `slow_below` actions or fewer are left, then the last action.
   */
  PIOXIDE_ON_EMPTY_SLOW = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideOnEmpty PioxideOnEmpty;
#else
typedef uint32_t PioxideOnEmpty;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What pioxide_queue_take wrote.
 */
enum PioxideTaken
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * A fresh action.
   */
  PIOXIDE_TAKEN_FRESH = 0,
  /**
   * The queue is dry: the last action again.
   */
  PIOXIDE_TAKEN_HELD = 1,
  /**
   * Nothing was written: no action has come yet, or a dry queue is to stop the robot.
   */
  PIOXIDE_TAKEN_NOTHING = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideTaken PioxideTaken;
#else
typedef uint32_t PioxideTaken;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A text of a contract.
 */
enum PioxideContractText
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The robot's name.
   */
  PIOXIDE_CONTRACT_TEXT_ROBOT = 0,
  /**
   * The instruction where an observation has none; empty for none.
   */
  PIOXIDE_CONTRACT_TEXT_DEFAULT_PROMPT = 1,
  /**
   * Where an observation holds the instruction.
   */
  PIOXIDE_CONTRACT_TEXT_PROMPT_KEY = 2,
  /**
   * The name of number `index` of an action; empty where it is not known.
   */
  PIOXIDE_CONTRACT_TEXT_JOINT_NAME = 3,
  /**
   * Its unit; empty where it has none or none is known.
   */
  PIOXIDE_CONTRACT_TEXT_JOINT_UNIT = 4,
  /**
   * The name of number `index` of the state; empty where it is not known.
   */
  PIOXIDE_CONTRACT_TEXT_STATE_NAME = 5,
  /**
   * Slot `index` of the model's images; empty behind the last.
   */
  PIOXIDE_CONTRACT_TEXT_CAMERA_SLOT = 6,
  /**
   * The robot's key of the camera that fills slot `index`; empty where none does or none is known.
   */
  PIOXIDE_CONTRACT_TEXT_CAMERA_KEY = 7,
  /**
   * What the action tokens are of: "fast" or another codec; empty for none.
   */
  PIOXIDE_CONTRACT_TEXT_ACTION_CODEC = 8,
  /**
   * The digest of that codec.
   */
  PIOXIDE_CONTRACT_TEXT_ACTION_SHA256 = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum PioxideContractText PioxideContractText;
#else
typedef uint32_t PioxideContractText;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Batches of prompts, which remember the instructions that came last. One thread at a time: a call that finds them in
 * use fails with PIOXIDE_STATUS_BUSY and changes nothing.
 */
typedef struct PioxideBatches PioxideBatches;

/**
 * A FAST tokenizer. Never changes: any number of threads may use one at once, each with its own scratch.
 */
typedef struct PioxideCodec PioxideCodec;

/**
 * A contract, as pioxide writes it beside a policy. Never changes: any number of threads may use one at once.
 */
typedef struct PioxideContract PioxideContract;

/**
 * An instruction, cleaned and tokenized once, for as many states as come; for prompts like those that made it. Never
 * changes: any number of threads may use one at once.
 */
typedef struct PioxideInstruction PioxideInstruction;

/**
 * How one model's prompts are written. Never changes: any number of threads may use one at once.
 */
typedef struct PioxidePrompts PioxidePrompts;

/**
 * An action queue. One thread at a time: a call that finds it in use fails with PIOXIDE_STATUS_BUSY and changes
 * nothing. Where a policy's thread puts chunks and a loop's thread takes actions, hold a lock of yours around the
 * calls, or hand the chunk over to the loop's thread.
 */
typedef struct PioxideQueue PioxideQueue;

/**
 * A safety filter. One thread at a time: a call that finds it in use fails with PIOXIDE_STATUS_BUSY and changes
 * nothing.
 */
typedef struct PioxideSafety PioxideSafety;

/**
 * Room to work in, for any codec, text and prompts. Each thread has its own: a call that finds it in use fails with
 * PIOXIDE_STATUS_BUSY. It grows with what it is used for and keeps what it has.
 */
typedef struct PioxideScratch PioxideScratch;

/**
 * A SentencePiece vocabulary. Never changes: any number of threads may use one at once, each with its own scratch.
 * Prompts made with it keep what they need: it may be freed before them.
 */
typedef struct PioxideText PioxideText;

/**
 * What is known of a codec.
 */
typedef struct {
  /**
   * sizeof(PioxideCodecInfo), set by the caller.
   */
  size_t struct_size;
  /**
   * The largest id plus one.
   */
  size_t vocab_size;
  /**
   * What coefficients are multiplied by before they are rounded.
   */
  double scale;
  /**
   * Steps in a chunk that the files name as the default; 0 where they name none.
   */
  size_t horizon;
  /**
   * Numbers in a step that the files name as the default; 0 where they name none.
   */
  size_t dim;
  /**
   * The lowest rounded coefficient around zero that has a token.
   */
  int64_t lowest;
  /**
   * The highest one, without a gap between.
   */
  int64_t highest;
} PioxideCodecInfo;

/**
 * What is known of a contract. 0 stands for a size that it does not say or says to be none.
 */
typedef struct {
  /**
   * sizeof(PioxideContractInfo), set by the caller.
   */
  size_t struct_size;
  /**
   * A PioxideFamily, or PIOXIDE_NOT_SAID.
   */
  uint32_t family;
  /**
   * 1 where the prompt holds the state, 0 where it does not, or PIOXIDE_NOT_SAID.
   */
  uint32_t state_in_text;
  /**
   * Numbers in the robot's state.
   */
  size_t state_dim;
  /**
   * Numbers in the robot's action.
   */
  size_t action_dim;
  /**
   * Actions a second.
   */
  double hz;
  /**
   * Actions in a chunk.
   */
  size_t horizon;
  /**
   * Numbers of an action inside the model.
   */
  size_t model_dim;
  /**
   * Tokens in a prompt's row.
   */
  size_t text_len;
  /**
   * Actions of a chunk to play before the next one comes; 0 for no opinion.
   */
  size_t play_steps;
  /**
   * Ids of the action tokens.
   */
  size_t action_vocab;
  /**
   * The largest delay that training saw, in actions.
   */
  size_t max_delay;
} PioxideContractInfo;

/**
 * What prompts are to be like. Fields that are not set are to be zero.
 */
typedef struct {
  /**
   * sizeof(PioxidePromptOptions).
   */
  size_t struct_size;
  /**
   * A PioxideFamily.
   */
  uint32_t family;
  /**
   * A PioxideStyle.
   */
  uint32_t style;
  /**
   * Joints that the text holds: a narrower state is filled up with zeros. 0 writes the state as it comes.
   */
  size_t state_width;
  /**
   * π0-FAST: ids of the FAST vocabulary; else 0.
   */
  size_t fast_vocab;
  /**
   * π0-FAST: pieces at the end of the text vocabulary that FAST ids leave alone, 128 in released models; else 0.
   */
  size_t fast_skipped;
} PioxidePromptOptions;

/**
 * What a queue is to be like. Fields that are not set are to be zero.
 */
typedef struct {
  /**
   * sizeof(PioxideQueueOptions).
   */
  size_t struct_size;
  /**
   * Numbers in an action.
   */
  size_t dim;
  /**
   * Actions in the longest chunk.
   */
  size_t most;
  /**
   * With PIOXIDE_ON_EMPTY_SLOW: from how many actions left on; else 0.
   */
  size_t slow_below;
  /**
   * A PioxideOnEmpty.
   */
  uint32_t on_empty;
  /**
   * To be 0.
   */
  uint32_t reserved;
} PioxideQueueOptions;

/**
 * What is known of a queue.
 */
typedef struct {
  /**
   * sizeof(PioxideQueueInfo), set by the caller.
   */
  size_t struct_size;
  /**
   * Actions consumed since the start, with fractions where the queue plays slowly: to be read when an observation is
   * taken, and given to pioxide_queue_put with its chunk.
   */
  double consumed;
  /**
   * Whole actions left in the current chunk.
   */
  size_t remaining;
  /**
   * Chunks that came so late that nothing of them was left.
   */
  uint64_t late;
  /**
   * Chunks whose observation was older than the current chunk's.
   */
  uint64_t outdated;
  /**
   * Ticks without a fresh action.
   */
  uint64_t dry_ticks;
} PioxideQueueInfo;

/**
 * What a filter is to hold. Of each kind, one number for every joint, one for all, or none for no limit.
 */
typedef struct {
  /**
   * sizeof(PioxideSafetyOptions).
   */
  size_t struct_size;
  /**
   * Numbers in an action.
   */
  size_t dim;
  /**
   * Actions a second.
   */
  double hz;
  /**
   * Lowest positions, in the action's units.
   */
  const double *low;
  /**
   * How many: 0, 1 or dim.
   */
  size_t low_len;
  /**
   * Highest positions.
   */
  const double *high;
  /**
   * How many: 0, 1 or dim.
   */
  size_t high_len;
  /**
   * Largest speeds, units a second.
   */
  const double *velocity;
  /**
   * How many: 0, 1 or dim.
   */
  size_t velocity_len;
  /**
   * Largest changes of velocity, units a second squared.
   */
  const double *acceleration;
  /**
   * How many: 0, 1 or dim.
   */
  size_t acceleration_len;
} PioxideSafetyOptions;

/**
 * What questions for a subtask are to be like. Fields that are not set are to be zero.
 */
typedef struct {
  /**
   * sizeof(PioxideSubtaskOptions).
   */
  size_t struct_size;
  /**
   * 1 where the text is to be without the state, as of models that were trained so; else 0.
   */
  uint32_t without_state;
  /**
   * To be 0.
   */
  uint32_t reserved;
  /**
   * Joints that the text holds: a narrower state is filled up with zeros. 0 writes the state as it comes.
   */
  size_t state_width;
} PioxideSubtaskOptions;

/**
 * What is known of a vocabulary.
 */
typedef struct {
  /**
   * sizeof(PioxideTextInfo), set by the caller.
   */
  size_t struct_size;
  /**
   * Pieces.
   */
  size_t vocab_size;
  /**
   * The id that begins a sequence; -1 where there is none.
   */
  int64_t bos;
  /**
   * The id that ends a sequence; -1 where there is none.
   */
  int64_t eos;
  /**
   * The id that fills up a batch; -1 where there is none.
   */
  int64_t pad;
  /**
   * The id that stands for what has no piece.
   */
  int64_t unk;
} PioxideTextInfo;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns PIOXIDE_ABI_VERSION of the library that was loaded, to be compared with the header's.
 */
uint32_t pioxide_abi_version(void);

/**
 * Returns the version of the library as text that ends in NUL and lives as long as the program.
 */
const char *pioxide_version(void);

/**
 * Makes batches of these prompts that remember the `most` instructions used last. The prompts may be freed before them.
 */
PioxideStatus pioxide_batches_new(const PioxidePrompts *prompts,
                                  size_t most,
                                  PioxideBatches **out);

/**
 * Frees batches; NULL is none.
 */
void pioxide_batches_free(PioxideBatches *batches);

/**
 * Writes a batch of `count` prompts. Their instructions stand end to end in `utf8_text`, and instruction i ends before
 * byte `ends[i]`. `states` `[count, dim]` are normalised; π0's prompts hold none (NULL and 0). `tokens` and `mask`
 * `[count, len]` are as in pioxide_prompts_write_f64, `lengths` `[count]` how many ids each prompt has, `truncated` `[count]` is 1
 * where its end did not fit. Allocates where an
 * instruction is not remembered. Where the call fails, rows hold nothing of meaning.
 */
PioxideStatus pioxide_batches_encode_f64(const PioxideBatches *batches,
                                         const uint8_t *utf8_text,
                                         const size_t *ends,
                                         size_t count,
                                         const double *states,
                                         size_t dim,
                                         int32_t *tokens,
                                         uint8_t *mask,
                                         size_t len,
                                         int32_t *lengths,
                                         uint8_t *truncated);

/**
 * Reads the content of `tokenizer.json` and of `processor_config.json`.
 */
PioxideStatus pioxide_codec_from_bytes(const uint8_t *tokenizer_json,
                                       size_t tokenizer_json_len,
                                       const uint8_t *processor_config,
                                       size_t processor_config_len,
                                       PioxideCodec **out);

/**
 * Reads `tokenizer.json` and `processor_config.json` in a directory, whose path is UTF-8 that ends in NUL.
 */
PioxideStatus pioxide_codec_from_directory(const char *path, PioxideCodec **out);

/**
 * Fits a tokenizer of at most `vocab_size` ids to `count` chunks `[count, horizon, dim]`, normalised, end to end. The
 * same chunks give the same tokenizer on any machine, in C and in Python. `scale` is 10 in published tokenizers.
 */
PioxideStatus pioxide_codec_fit(const double *chunks,
                                size_t count,
                                size_t horizon,
                                size_t dim,
                                size_t vocab_size,
                                double scale,
                                PioxideCodec **out);

/**
 * Frees a codec; NULL is none.
 */
void pioxide_codec_free(PioxideCodec *codec);

/**
 * Says what is known of a codec; set `info->struct_size` before.
 */
PioxideStatus pioxide_codec_info(const PioxideCodec *codec, PioxideCodecInfo *info);

/**
 * Makes room in a scratch for chunks `[horizon, dim]`, so that not even the first call in a loop allocates.
 */
PioxideStatus pioxide_codec_prepare(const PioxideCodec *codec,
                                    const PioxideScratch *scratch,
                                    size_t horizon,
                                    size_t dim);

/**
 * Encodes a chunk `[horizon, dim]`, row after row, to ids. `on_overflow` is a PioxideOnOverflow. `*count` becomes how
 * many ids there are: where that is more than `capacity`, nothing else is written and the call ends in
 * PIOXIDE_STATUS_BUFFER_TOO_SMALL; 4 * horizon * dim is always enough. `*clipped`, if not NULL, becomes how many
 * coefficients were clipped.
 */
PioxideStatus pioxide_codec_encode_f64(const PioxideCodec *codec,
                                       const PioxideScratch *scratch,
                                       const double *chunk,
                                       size_t horizon,
                                       size_t dim,
                                       uint32_t on_overflow,
                                       uint32_t *ids,
                                       size_t capacity,
                                       size_t *count,
                                       size_t *clipped);

/**
 * Encodes a chunk of single precision; else as pioxide_codec_encode_f64. Its ids may differ from those of the same
 * numbers in double precision, as they do in Python.
 */
PioxideStatus pioxide_codec_encode_f32(const PioxideCodec *codec,
                                       const PioxideScratch *scratch,
                                       const float *chunk,
                                       size_t horizon,
                                       size_t dim,
                                       uint32_t on_overflow,
                                       uint32_t *ids,
                                       size_t capacity,
                                       size_t *count,
                                       size_t *clipped);

/**
 * Decodes ids to a chunk `[horizon, dim]`, row after row. `partial` is a PioxidePartial. `*missing`, if not NULL,
 * becomes how many coefficients were missing and taken as zero. Where it fails, `actions` holds nothing of meaning.
 */
PioxideStatus pioxide_codec_decode(const PioxideCodec *codec,
                                   const PioxideScratch *scratch,
                                   const uint32_t *ids,
                                   size_t count,
                                   uint32_t partial,
                                   double *actions,
                                   size_t horizon,
                                   size_t dim,
                                   size_t *missing);

/**
 * Reads the content of a `contract.json`.
 */
PioxideStatus pioxide_contract_from_bytes(const uint8_t *json, size_t json_len, PioxideContract **out);

/**
 * Reads a `contract.json`, whose path, or its directory's, is UTF-8 that ends in NUL.
 */
PioxideStatus pioxide_contract_from_file(const char *path, PioxideContract **out);

/**
 * Frees a contract; NULL is none. Prompts made by it need it no more.
 */
void pioxide_contract_free(PioxideContract *contract);

/**
 * Says what is known of a contract; set `info->struct_size` before.
 */
PioxideStatus pioxide_contract_info(const PioxideContract *contract, PioxideContractInfo *info);

/**
 * Writes a text of a contract as UTF-8 without a NUL. `which` is a PioxideContractText; `index` is for those that are of
 * one number or slot. `*len` becomes how many bytes there are: where that is more than `capacity`, nothing else is
 * written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL.
 */
PioxideStatus pioxide_contract_text(const PioxideContract *contract,
                                    uint32_t which,
                                    size_t index,
                                    uint8_t *utf8_text,
                                    size_t capacity,
                                    size_t *len);

/**
 * Refuses a codec whose ids mean other actions than the contract's, or that was fitted for other chunks. Allocates.
 */
PioxideStatus pioxide_contract_check_codec(const PioxideContract *contract,
                                           const PioxideCodec *codec);

/**
 * Normalises a state `[dim]` in the robot's units, as prompts and π0 read it.
 */
PioxideStatus pioxide_contract_apply_state_f64(const PioxideContract *contract,
                                               const double *state,
                                               size_t dim,
                                               double *normalised);

/**
 * As pioxide_contract_apply_state_f64, from single precision.
 */
PioxideStatus pioxide_contract_apply_state_f32(const PioxideContract *contract,
                                               const float *state,
                                               size_t dim,
                                               double *normalised);

/**
 * Normalises a chunk `[rows, dim]` in the robot's units that begins at the robot's `state` `[state_dim]`: relative to it
 * where the contract says so. What is encoded to action tokens.
 */
PioxideStatus pioxide_contract_apply_actions_f64(const PioxideContract *contract,
                                                 const double *actions,
                                                 size_t rows,
                                                 size_t dim,
                                                 const double *state,
                                                 size_t state_dim,
                                                 double *normalised);

/**
 * Brings a model's answer `[rows, width]` to `actions` `[rows, dim]` in the robot's units. What is beyond the robot's
 * numbers in a row was padding. `state` `[state_dim]` is the robot's, of the observation that was answered.
 */
PioxideStatus pioxide_contract_invert_actions_f64(const PioxideContract *contract,
                                                  const double *answer,
                                                  size_t rows,
                                                  size_t width,
                                                  const double *state,
                                                  size_t state_dim,
                                                  double *actions,
                                                  size_t dim);

/**
 * As pioxide_contract_invert_actions_f64, from an answer of single precision, which a network's is: its actions are
 * then Python's to the last bit.
 */
PioxideStatus pioxide_contract_invert_actions_f32(const PioxideContract *contract,
                                                  const float *answer,
                                                  size_t rows,
                                                  size_t width,
                                                  const double *state,
                                                  size_t state_dim,
                                                  double *actions,
                                                  size_t dim);

/**
 * Makes the prompts of one model in a vocabulary.
 */
PioxideStatus pioxide_prompts_new(const PioxideText *text,
                                  const PioxidePromptOptions *options,
                                  PioxidePrompts **out);

/**
 * Makes the prompts that a contract asks for. Their rows have `text_len` of its info.
 */
PioxideStatus pioxide_prompts_from_contract(const PioxideText *text,
                                            const PioxideContract *contract,
                                            PioxidePrompts **out);

/**
 * Frees prompts; NULL is none.
 */
void pioxide_prompts_free(PioxidePrompts *prompts);

/**
 * Tokenizes an instruction, `len` bytes of UTF-8. This call allocates.
 */
PioxideStatus pioxide_prompts_tokenize(const PioxidePrompts *prompts,
                                       const uint8_t *utf8_text,
                                       size_t len,
                                       PioxideInstruction **out);

/**
 * Frees an instruction; NULL is none.
 */
void pioxide_instruction_free(PioxideInstruction *instruction);

/**
 * Writes one prompt: `tokens` and `mask` `[len]`, filled up with the pad id and 0. `state` `[dim]` is normalised; π0's
 * prompts hold none (NULL and 0). `*length` becomes how many ids the prompt has: more than `len` where its end did not
 * fit and was left out. Allocates only in vocabularies whose numbers can't be looked up, which PaliGemma's can.
 */
PioxideStatus pioxide_prompts_write_f64(const PioxidePrompts *prompts,
                                        const PioxideInstruction *instruction,
                                        const double *state,
                                        size_t dim,
                                        int32_t *tokens,
                                        uint8_t *mask,
                                        size_t len,
                                        size_t *length);

/**
 * As pioxide_prompts_write_f64, with a state of single precision.
 */
PioxideStatus pioxide_prompts_write_f32(const PioxidePrompts *prompts,
                                        const PioxideInstruction *instruction,
                                        const float *state,
                                        size_t dim,
                                        int32_t *tokens,
                                        uint8_t *mask,
                                        size_t len,
                                        size_t *length);

/**
 * Writes one training row of π0-FAST: the prompt, then the FAST ids `actions` `[count]` in their frame. `tokens` and
 * `mask` as in pioxide_prompts_write_f64; `ar_mask` `[len]` is 1 where a token sees only what is before it, `loss_mask`
 * `[len]` 1 where it carries the loss.
 */
PioxideStatus pioxide_prompts_write_training_f64(const PioxidePrompts *prompts,
                                                 const PioxideInstruction *instruction,
                                                 const double *state,
                                                 size_t dim,
                                                 const uint32_t *actions,
                                                 size_t count,
                                                 int32_t *tokens,
                                                 uint8_t *mask,
                                                 int32_t *ar_mask,
                                                 uint8_t *loss_mask,
                                                 size_t len,
                                                 size_t *length);

/**
 * Finds the FAST ids in what π0-FAST wrote, `tokens` `[count]`: what stands between the first `Action: ` and the next `|`,
 * or from the first token on where `continued` is not 0, because the prefix ended in `Action: ` already. `*found`
 * becomes how many there are: where that is more than `capacity`, nothing else is written and the call ends in
 * PIOXIDE_STATUS_BUFFER_TOO_SMALL; `count` is always enough.
 */
PioxideStatus pioxide_prompts_fast_ids(const PioxidePrompts *prompts,
                                       const PioxideScratch *scratch,
                                       const int32_t *tokens,
                                       size_t count,
                                       uint32_t continued,
                                       uint32_t *ids,
                                       size_t capacity,
                                       size_t *found);

/**
 * Writes the ids that begin π0-FAST's answer, before its action ids. `*count` becomes how many there are, as elsewhere.
 */
PioxideStatus pioxide_prompts_answer_start(const PioxidePrompts *prompts,
                                           int32_t *tokens,
                                           size_t capacity,
                                           size_t *count);

/**
 * Writes the ids that end π0-FAST's answer, behind its action ids. `*count` becomes how many there are, as elsewhere.
 */
PioxideStatus pioxide_prompts_answer_end(const PioxidePrompts *prompts,
                                         int32_t *tokens,
                                         size_t capacity,
                                         size_t *count);

/**
 * Writes to `tokens` `[count]` the text ids of FAST ids `[count]`.
 */
PioxideStatus pioxide_prompts_text_ids(const PioxidePrompts *prompts,
                                       const uint32_t *ids,
                                       size_t count,
                                       int32_t *tokens);

/**
 * Makes an empty queue, with room for its longest chunk. Nothing is allocated from then on.
 */
PioxideStatus pioxide_queue_new(const PioxideQueueOptions *options, PioxideQueue **out);

/**
 * Frees a queue; NULL is none.
 */
void pioxide_queue_free(PioxideQueue *queue);

/**
 * Lets a new chunk `[rows, dim]` take over at the place that the robot has reached meanwhile. `since` is what `consumed`
 * was when its observation was taken. `*delay`, if not NULL, becomes how many actions it came late, or -1 where the
 * chunk was dropped: `late` or `outdated` has then counted it.
 */
PioxideStatus pioxide_queue_put(const PioxideQueue *queue,
                                const double *actions,
                                size_t rows,
                                size_t dim,
                                double since,
                                double *delay);

/**
 * Writes the next action `[dim]` to play. `*taken` becomes a PioxideTaken.
 */
PioxideStatus pioxide_queue_take(const PioxideQueue *queue, double *action, size_t dim, uint32_t *taken);

/**
 * Writes what is left of the current chunk `[n, dim]`, the next action first: what a policy is to continue. `*count`
 * becomes how many numbers that is: where it is more than `capacity`, nothing else is written and the call ends in
 * PIOXIDE_STATUS_BUFFER_TOO_SMALL.
 */
PioxideStatus pioxide_queue_leftover(const PioxideQueue *queue,
                                     double *actions,
                                     size_t capacity,
                                     size_t *count);

/**
 * Says where a queue is; set `info->struct_size` before.
 */
PioxideStatus pioxide_queue_info(const PioxideQueue *queue, PioxideQueueInfo *info);

/**
 * Forgets chunk and last action, as between episodes; a chunk on its way is dropped as outdated.
 */
PioxideStatus pioxide_queue_clear(const PioxideQueue *queue);

/**
 * Makes a filter; the limits are copied. Nothing is allocated from then on.
 */
PioxideStatus pioxide_safety_new(const PioxideSafetyOptions *options, PioxideSafety **out);

/**
 * Frees a filter; NULL is none.
 */
void pioxide_safety_free(PioxideSafety *safety);

/**
 * Starts anew at rest at `position` `[dim]`, the measured joints; to be called before the first action.
 */
PioxideStatus pioxide_safety_reset(const PioxideSafety *safety, const double *position, size_t dim);

/**
 * A tick in which nothing is sent: the robot stands at the last action, and goes on from rest.
 */
PioxideStatus pioxide_safety_hold(const PioxideSafety *safety);

/**
 * Writes to `given` `[dim]` the action to send: the nearest one to `wanted` `[dim]` that the limits allow. They may be
 * the same buffer, but not overlap otherwise. `*violations`, if not NULL, becomes which limits changed it: a sum of
 * PIOXIDE_VIOLATED_*.
 */
PioxideStatus pioxide_safety_apply(const PioxideSafety *safety,
                                   const double *wanted,
                                   double *given,
                                   size_t dim,
                                   uint32_t *violations);

/**
 * Makes room to work in.
 */
PioxideStatus pioxide_scratch_new(PioxideScratch **out);

/**
 * Frees it; NULL is none.
 */
void pioxide_scratch_free(PioxideScratch *scratch);

/**
 * Writes the bin of each of `dim` joints of a normalised state: 0 to 255 over [-1, 1), -1 below, 255 from 1 on.
 * Threads need nothing of their own.
 */
PioxideStatus pioxide_state_bins_f64(const double *state,
                                     size_t dim,
                                     int16_t *bins);

/**
 * As pioxide_state_bins_f64, of single precision.
 */
PioxideStatus pioxide_state_bins_f32(const float *state, size_t dim, int16_t *bins);

/**
 * Returns why the latest failing call of this thread failed, as UTF-8 that ends in NUL and is cut after 1023 bytes.
 * Valid until the next call that fails in this thread, or its end. Empty before any has.
 */
const char *pioxide_last_error(void);

/**
 * Makes π0.5's questions for a subtask in a vocabulary. pioxide_prompts_tokenize, pioxide_prompts_write_f64 and batches
 * write them; actions are then asked for by π0.5's prompts, whose instruction is the subtask.
 */
PioxideStatus pioxide_subtasks_new(const PioxideText *text,
                                   const PioxideSubtaskOptions *options,
                                   PioxidePrompts **out);

/**
 * Makes the questions for a subtask that a contract's model learnt. Their rows have `text_len` of its info.
 */
PioxideStatus pioxide_subtasks_from_contract(const PioxideText *text,
                                             const PioxideContract *contract,
                                             PioxidePrompts **out);

/**
 * Writes the ids of an answer, whose text is `len` bytes of UTF-8, its end included. `*count` becomes how many there are:
 * where that is more than `capacity`, nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL. This
 * call allocates.
 */
PioxideStatus pioxide_subtasks_answer(const PioxidePrompts *prompts,
                                      const uint8_t *utf8_text,
                                      size_t len,
                                      int32_t *tokens,
                                      size_t capacity,
                                      size_t *count);

/**
 * Reads the subtask in what π0.5 wrote, `tokens` `[count]`: the text up to the end of the sequence, in UTF-8 without a
 * NUL. `*len` becomes how many bytes it has: where that is more than `capacity`, nothing else is written and the call ends
 * in PIOXIDE_STATUS_BUFFER_TOO_SMALL. PIOXIDE_STATUS_NO_SUBTASK where there is no end or no text. This call allocates.
 */
PioxideStatus pioxide_subtasks_read(const PioxidePrompts *prompts,
                                    const int32_t *tokens,
                                    size_t count,
                                    uint8_t *utf8_text,
                                    size_t capacity,
                                    size_t *len);

/**
 * Reads the content of a `.model` file.
 */
PioxideStatus pioxide_text_from_bytes(const uint8_t *model, size_t model_len, PioxideText **out);

/**
 * Reads a `.model` file, whose path is UTF-8 that ends in NUL.
 */
PioxideStatus pioxide_text_from_file(const char *path, PioxideText **out);

/**
 * Frees a vocabulary; NULL is none.
 */
void pioxide_text_free(PioxideText *text);

/**
 * Says what is known of a vocabulary; set `info->struct_size` before.
 */
PioxideStatus pioxide_text_info(const PioxideText *text, PioxideTextInfo *info);

/**
 * Encodes `len` bytes of UTF-8. No beginning or end is added. `*count` becomes how many ids there are: where that is
 * more than `capacity`, nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL.
 */
PioxideStatus pioxide_text_encode(const PioxideText *text,
                                  const PioxideScratch *scratch,
                                  const uint8_t *utf8_text,
                                  size_t len,
                                  uint32_t *ids,
                                  size_t capacity,
                                  size_t *count);

/**
 * Decodes ids to UTF-8 without a NUL. `*len` becomes how many bytes there are: where that is more than `capacity`,
 * nothing else is written and the call ends in PIOXIDE_STATUS_BUFFER_TOO_SMALL. This call allocates.
 */
PioxideStatus pioxide_text_decode(const PioxideText *text,
                                  const uint32_t *ids,
                                  size_t count,
                                  uint8_t *utf8_text,
                                  size_t capacity,
                                  size_t *len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PIOXIDE_H */
