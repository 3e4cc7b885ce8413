// Canonical decomposition and the order of combining marks.
#pragma once

#include <vector>

namespace weldlm {

// A code point of a text that is being normalized.
struct NormalizedChar {
  char32_t value;
  // How many code points of the source it takes the place of, in its order: of what one of them
  // falls into, the first has 1 and the others have 0.
  int num_replaced;
};

// Appends what the code point falls into.
void append_canonical_parts(char32_t code_point, std::vector<NormalizedChar>& chars);
void append_compatible_parts(char32_t code_point, std::vector<NormalizedChar>& chars);

// Sorts what follows each starter by combining class; equals stay in order.
void order_marks(std::vector<NormalizedChar>& chars);

}  // namespace weldlm
