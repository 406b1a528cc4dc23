#include "arguments.h"

#include <cmath>
#include <string>

namespace ringbell {
namespace {

void ThrowType(const Napi::Value& value, const char* name, const char* expected) {
  Napi::TypeError::New(value.Env(), std::string(name) + " must be " + expected).ThrowAsJavaScriptException();
}

}  // namespace

std::optional<int64_t> IntegerArgument(const Napi::Value& value, const char* name, int64_t min, int64_t max) {
  double number = 0;
  // The plain C call: it tells whether the value is a number, too.
  if (napi_get_value_double(value.Env(), value, &number) != napi_ok) {
    ThrowType(value, name, "a number");
    return std::nullopt;
  }
  // Both limits are within what a double holds exactly; NaN fails every comparison.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      std::trunc(number) != number) {
    Napi::RangeError::New(value.Env(), std::string(name) + " must be an integer from " + std::to_string(min) +
                                           " to " + std::to_string(max))
        .ThrowAsJavaScriptException();
    return std::nullopt;
  }
  return static_cast<int64_t>(number);
}

std::optional<int> FileDescriptorArgument(const Napi::Value& value, const char* name) {
  const auto number =
      IntegerArgument(value, name, std::numeric_limits<int>::min(), std::numeric_limits<int>::max());
  if (!number) return std::nullopt;
  return static_cast<int>(*number);
}

std::optional<bool> BooleanArgument(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) {
    ThrowType(value, name, "a boolean");
    return std::nullopt;
  }
  return value.As<Napi::Boolean>().Value();
}

std::optional<std::pair<void*, size_t>> TypedArrayArgument(const Napi::Value& value, const char* name,
                                                           napi_typedarray_type type) {
  napi_typedarray_type actual = type;
  size_t elements = 0;
  void* data = nullptr;
  // The plain C call: it is the only one that gives the address of shared memory.
  if (!value.IsTypedArray() ||
      napi_get_typedarray_info(value.Env(), value, &actual, &elements, &data, nullptr, nullptr) != napi_ok ||
      actual != type) {
    ThrowType(value, name,
              type == napi_int32_array    ? "an Int32Array"
              : type == napi_uint32_array ? "a Uint32Array"
                                          : "a Uint8Array");
    return std::nullopt;
  }
  return std::make_pair(data, elements);
}

std::optional<View> BytesArgument(const Napi::Value& value, const char* name) {
  const auto array = TypedArrayArgument(value, name, napi_uint8_array);
  if (!array) return std::nullopt;
  return View{static_cast<uint8_t*>(array->first), array->second};
}

std::optional<View> ApertureArgument(const Napi::Value& value) {
  const auto view = BytesArgument(value, "view");
  if (!view) return std::nullopt;
  size_t byte_offset = 0;
  napi_get_typedarray_info(value.Env(), value, nullptr, nullptr, nullptr, nullptr, &byte_offset);
  if (byte_offset != 0 || view->length == 0) {
    Napi::RangeError::New(value.Env(), "view must cover the whole memory").ThrowAsJavaScriptException();
    return std::nullopt;
  }
  return view;
}

}  // namespace ringbell
