#include "tokenizer/pretokenizer.hpp"

namespace weldlm {
namespace {

// Splits one piece further, all of it.
void split_piece(const Pretokenizer& step, std::string_view text, ByteRange piece,
                 std::vector<ByteRange>& pieces) {
  const std::string_view inside = text.substr(piece.begin, piece.end - piece.begin);
  for (std::size_t start = 0; start < inside.size();) {
    const std::size_t first = pieces.size();
    start = step.split(inside, start, pieces);
    for (std::size_t i = first; i < pieces.size(); ++i) {
      pieces[i].begin += piece.begin;
      pieces[i].end += piece.begin;
    }
  }
}

}  // namespace

std::size_t PretokenizerSequence::split(std::string_view text, std::size_t start,
                                        std::vector<ByteRange>& pieces) const {
  if (steps_.empty()) {
    if (start < text.size()) pieces.push_back({start, text.size()});
    return text.size();
  }
  std::vector<ByteRange> found;
  const std::size_t next = steps_.front()->split(text, start, found);
  for (std::size_t step = 1; step < steps_.size(); ++step) {
    std::vector<ByteRange> finer;
    for (const ByteRange& piece : found) split_piece(*steps_[step], text, piece, finer);
    found = std::move(finer);
  }
  pieces.insert(pieces.end(), found.begin(), found.end());
  return next;
}

}  // namespace weldlm
