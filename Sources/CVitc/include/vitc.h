// vitc as a C library: reads models, runs them, prepares their images, and does what the command line does.
//
// Every function may be called from any thread. Handles are opaque; each has one function that frees it, which takes NULL.
// A model may be freed while sessions on it live. What a function that can fail gives back beside its status is written only
// where it returns VITC_OK, the error only where it does not (NULL with VITC_CHECK_FAILED); `error` may be NULL. Strings are UTF-8 and end in 0; those that come
// from a handle live as long as it does. Names of files to read are bytes as the system has them.
//
// Options and callbacks begin with their size, so that later versions can add to them: set it with sizeof, and zero the rest.
#ifndef VITC_H
#define VITC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What this header is of. A library of the same major number has all of it, and may have more.
#define VITC_ABI_MAJOR 0
#define VITC_ABI_MINOR 1

// How a call ended; the numbers are the exit codes of the command line.
typedef int32_t vitc_status;
enum {
  VITC_OK = 0,
  // A check found what it looks for: a difference, a wrong output, a bound that is missed.
  VITC_CHECK_FAILED = 1,
  // What was asked for makes no sense: an argument, an option, its value.
  VITC_USAGE = 2,
  // A file or tensor is missing, malformed or not supported.
  VITC_INPUT = 3,
  // The system refuses: no memory, a full disk; or vitc is wrong.
  VITC_ENVIRONMENT = 4,
  // A callback asked to stop.
  VITC_INTERRUPTED = 130
};

// The types of elements.
typedef int32_t vitc_type;
enum {
  VITC_F32 = 1, VITC_F64 = 2, VITC_F16 = 3, VITC_BF16 = 4,
  VITC_I64 = 5, VITC_I32 = 6, VITC_I16 = 7, VITC_I8 = 8,
  VITC_U64 = 9, VITC_U32 = 10, VITC_U16 = 11, VITC_U8 = 12,
  VITC_BOOL = 13
};

// The most axes of a tensor that is given to a model.
#define VITC_MAX_RANK 16

typedef struct vitc_error vitc_error;
typedef struct vitc_model vitc_model;
typedef struct vitc_session vitc_session;

// ---- Versions

// The version of the library, as "0.1.0".
const char *vitc_version(void);
// The numbers that VITC_ABI_MAJOR and VITC_ABI_MINOR had when the library was built: 1000 * major + minor.
int32_t vitc_abi_version(void);

// ---- Errors

// What it is, stable between versions; what was found and expected; the file it is about, and the node of the model there, or
// NULL; what helps, or NULL.
const char *vitc_error_code(const vitc_error *error);
const char *vitc_error_message(const vitc_error *error);
const char *vitc_error_file(const vitc_error *error);
const char *vitc_error_node(const vitc_error *error);
const char *vitc_error_help(const vitc_error *error);
// All of it, as the command line writes it.
const char *vitc_error_text(const vitc_error *error);
void vitc_error_free(vitc_error *error);

// ---- Models

typedef struct vitc_model_options {
  size_t size;
  // What products are computed in: "f32", "bf16" or "int8"; NULL for what the file says.
  const char *precision;
  // What an ONNX file leaves open of its inputs, each as "NAME=batch,3,224,224".
  const char *const *input_shapes;
  size_t input_shape_count;
  // How images are prepared where the model says nothing or something else, each as "KEY=VALUE".
  const char *const *preprocessing;
  size_t preprocessing_count;
  // Threads that read; 0 for as many as cores may be used.
  int32_t threads;
} vitc_model_options;

// Opens an ONNX file, a .vmod or a textual model, told by its contents; `options` may be NULL. Stays valid where the file is replaced by
// another, not where it is cut short.
vitc_status vitc_model_open(const char *path, const vitc_model_options *options, vitc_model **model, vitc_error **error);
// The same of `size` bytes in memory, which are copied. Errors call them `name`; it may be NULL.
vitc_status vitc_model_open_memory(
    const void *bytes, size_t size, const char *name, const vitc_model_options *options, vitc_model **model,
    vitc_error **error);
void vitc_model_free(vitc_model *model);

// An input or output: its name, the type of its elements, and how many axes of which extents it has; -1 is what the caller
// chooses (the batch, above all). Lives as long as the model.
typedef struct vitc_value {
  const char *name;
  vitc_type type;
  size_t rank;
  const int64_t *shape;
} vitc_value;

size_t vitc_model_input_count(const vitc_model *model);
size_t vitc_model_output_count(const vitc_model *model);
// NULL where there is none of that number.
const vitc_value *vitc_model_input(const vitc_model *model, size_t index);
const vitc_value *vitc_model_output(const vitc_model *model, size_t index);
// How many numbers its weights are.
int64_t vitc_model_parameter_count(const vitc_model *model);
// The names of classes, in the order of the outputs; none where nobody says. NULL where there is none of that number.
size_t vitc_model_label_count(const vitc_model *model);
const char *vitc_model_label(const vitc_model *model, size_t index);
// Warnings and notes of reading it, as text; NULL where there is none of that number.
size_t vitc_model_message_count(const vitc_model *model);
const char *vitc_model_message(const vitc_model *model, size_t index);

// ---- Running

// A tensor in memory of the caller's.
typedef struct vitc_tensor {
  vitc_type type;
  void *data;
  size_t rank;
  const int64_t *shape;
  // The bytes from one entry of each axis to the next, which may be negative; NULL where elements lie row by row without gaps.
  const int64_t *strides;
} vitc_tensor;

// A session on `threads` threads, 0 for as many as cores may be used. Sessions share the model's weights, and those of a process
// that have as many threads share these. One session may run on several threads at once.
vitc_status vitc_session_open(const vitc_model *model, int32_t threads, vitc_session **session, vitc_error **error);
void vitc_session_free(vitc_session *session);

// The shape of output `index` for inputs of these shapes, of which data and strides are not looked at. `rank` says how many extents `shape` has
// room for, and is set to how many there are.
vitc_status vitc_session_output_shape(
    const vitc_session *session, const vitc_tensor *inputs, size_t input_count, size_t index, int64_t *shape,
    size_t *rank, vitc_error **error);

// Runs on all inputs in the model's order and writes all outputs, in theirs. Inputs are converted to the model's types where both
// are floats or both whole numbers; outputs have the model's types. Where the model's batch is fixed, another number of images runs in parts.
vitc_status vitc_session_run(
    const vitc_session *session, const vitc_tensor *inputs, size_t input_count, const vitc_tensor *outputs,
    size_t output_count, vitc_error **error);

// ---- Images

// The shape of one prepared image, without the axis that counts them; `rank` as above.
vitc_status vitc_image_shape(const vitc_model *model, int64_t *shape, size_t *rank, vitc_error **error);
// Decodes a JPEG, PNG or WebP file in memory and prepares it as the model says, into `count` floats: as many as the shape has.
vitc_status vitc_image_prepare(
    const vitc_model *model, const void *bytes, size_t size, float *target, size_t count, vitc_error **error);
// The same of a picture of 8 bits a sample: rows from the top, each `row_bytes` behind the one before, with the `channels` of a
// pixel, 1 (gray) or 3 (red, green, blue), side by side.
vitc_status vitc_image_prepare_pixels(
    const vitc_model *model, const uint8_t *pixels, size_t width, size_t height, size_t channels, size_t row_bytes,
    float *target, size_t count, vitc_error **error);

// ---- Commands

// Who hears what a command says; each may be NULL. They may be called from any thread, one call at a time.
typedef struct vitc_callbacks {
  size_t size;
  // Handed to each of them.
  void *context;
  // Results, piece by piece: UTF-8 that ends in no 0.
  void (*output)(void *context, const char *text, size_t size);
  // A message: "error", "warning" or "note", its code, and all of it as text.
  void (*message)(void *context, const char *severity, const char *code, const char *text);
  // How far long work is: what is done, `done` of `total`, and a figure worth showing, which may be empty.
  void (*progress)(void *context, const char *phase, int64_t done, int64_t total, const char *figure);
  // Asked now and then; the work stops, and keeps what it has, where the answer is not 0.
  int32_t (*cancelled)(void *context);
} vitc_callbacks;

// Does what `vitc WORDS…` does, in this process: compile, export, eval, inspect, verify … (`vitc help`). Signals are left alone.
// --memory-limit is for a process of its own and refused here. VITC_CHECK_FAILED comes without an error where a command found what it looks for, as `vitc diff` a difference.
vitc_status vitc_command(
    const char *const *words, size_t count, const vitc_callbacks *callbacks, vitc_error **error);

#ifdef __cplusplus
}
#endif
#endif
