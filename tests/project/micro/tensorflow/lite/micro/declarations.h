// What README's C sample uses of TensorFlow Lite Micro, declared for the library in the wheel `tflite-micro`,
// which comes without headers: names, signatures and layouts are those of its symbols (x86-64, GCC's ABI).
// The classes lie in tflite::micro there; with MICRO_IN_TFLITE in tflite, as until 2026.
#ifndef KDTF_TESTS_MICRO_DECLARATIONS_H_
#define KDTF_TESTS_MICRO_DECLARATIONS_H_

#include <cstddef>
#include <cstdint>

#ifdef MICRO_IN_TFLITE
#define MICRO_BEGIN
#define MICRO_END
#else
#define MICRO_BEGIN namespace micro {
#define MICRO_END }
#endif

namespace tflite {

struct Model;
struct Operator;
enum BuiltinOperator : int32_t {
  BuiltinOperator_CONV_2D = 3,
  BuiltinOperator_FULLY_CONNECTED = 9,
  BuiltinOperator_MAX_POOL_2D = 17,
  BuiltinOperator_RESHAPE = 22,
  BuiltinOperator_SOFTMAX = 25,
  BuiltinOperator_QUANTIZE = 114,
};

inline const Model *GetModel(const void *bytes) {  // a flatbuffer begins with the offset of its root
  const uint8_t *start = static_cast<const uint8_t *>(bytes);
  uint32_t offset = start[0] | start[1] << 8 | start[2] << 16 | uint32_t(start[3]) << 24;
  return reinterpret_cast<const Model *>(start + offset);
}

MICRO_BEGIN

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

struct TfLiteTensor {
  int32_t quantization_type;
  void *quantization;
  float scale;
  int32_t zero_point;
  union { uint8_t *uint8; int8_t *int8; float *f; void *data; } data;
  void *dims;
  size_t bytes;
  int32_t type, allocation_type;
  bool is_variable;
};

struct TFLMRegistration {
  void *(*init)(void *, const char *, size_t);
  void (*free)(void *, void *);
  TfLiteStatus (*prepare)(void *, void *);
  TfLiteStatus (*invoke)(void *, void *);
  void (*reset)(void *, void *);
  int32_t builtin_code;
  const char *custom_name;
};

struct BuiltinDataAllocator;
typedef TfLiteStatus (*Parser)(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParseConv2D(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParseFullyConnected(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParsePool(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParseQuantize(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParseReshape(const Operator *, BuiltinDataAllocator *, void **);
TfLiteStatus ParseSoftmax(const Operator *, BuiltinDataAllocator *, void **);
TFLMRegistration Register_CONV_2D();
TFLMRegistration Register_FULLY_CONNECTED();
TFLMRegistration Register_MAX_POOL_2D();
TFLMRegistration Register_QUANTIZE();
TFLMRegistration Register_RESHAPE();
TFLMRegistration Register_SOFTMAX();

class MicroOpResolver {
 public:
  virtual const TFLMRegistration *FindOp(BuiltinOperator op) const = 0;
  virtual const TFLMRegistration *FindOp(const char *name) const = 0;
  virtual Parser GetOpDataParser(BuiltinOperator op) const = 0;
  virtual ~MicroOpResolver() {}
};

template <unsigned int most>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  const TFLMRegistration *FindOp(BuiltinOperator op) const override {
    for (unsigned int i = 0; i < count; ++i)
      if (ops[i] == op) return &registrations[i];
    return nullptr;
  }
  const TFLMRegistration *FindOp(const char *) const override { return nullptr; }
  Parser GetOpDataParser(BuiltinOperator op) const override {
    for (unsigned int i = 0; i < count; ++i)
      if (ops[i] == op) return parsers[i];
    return nullptr;
  }
  TfLiteStatus AddConv2D() { return Add(BuiltinOperator_CONV_2D, Register_CONV_2D(), ParseConv2D); }
  TfLiteStatus AddFullyConnected() {
    return Add(BuiltinOperator_FULLY_CONNECTED, Register_FULLY_CONNECTED(), ParseFullyConnected);
  }
  TfLiteStatus AddMaxPool2D() { return Add(BuiltinOperator_MAX_POOL_2D, Register_MAX_POOL_2D(), ParsePool); }
  TfLiteStatus AddQuantize() { return Add(BuiltinOperator_QUANTIZE, Register_QUANTIZE(), ParseQuantize); }
  TfLiteStatus AddReshape() { return Add(BuiltinOperator_RESHAPE, Register_RESHAPE(), ParseReshape); }
  TfLiteStatus AddSoftmax() { return Add(BuiltinOperator_SOFTMAX, Register_SOFTMAX(), ParseSoftmax); }

 private:
  TfLiteStatus Add(BuiltinOperator op, const TFLMRegistration &registration, Parser parser) {
    if (count == most) return kTfLiteError;
    ops[count] = op;
    registrations[count] = registration;
    registrations[count].builtin_code = op;
    parsers[count++] = parser;
    return kTfLiteOk;
  }
  TFLMRegistration registrations[most];
  BuiltinOperator ops[most];
  Parser parsers[most];
  unsigned int count = 0;
};

struct MicroResourceVariables;
struct MicroProfilerInterface;

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *model, const MicroOpResolver &ops, uint8_t *arena, size_t bytes,
                   MicroResourceVariables *variables = nullptr, MicroProfilerInterface *profiler = nullptr,
                   bool preserve_all_tensors = false);
  ~MicroInterpreter();
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor *input(size_t index);
  TfLiteTensor *output(size_t index);

 private:
  alignas(16) unsigned char members[4096];  // more than the library's own, some 250 bytes
};

MICRO_END
}  // namespace tflite

#ifndef MICRO_IN_TFLITE
using tflite::micro::kTfLiteOk;  // as tensorflow/lite/micro/c/c_api_types.h does
#else
using tflite::kTfLiteOk;  // in C's own namespace there
#endif

#endif  // KDTF_TESTS_MICRO_DECLARATIONS_H_
