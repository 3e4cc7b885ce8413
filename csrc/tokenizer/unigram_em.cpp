#include "tokenizer/unigram_em.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "tokenizer/parallel.hpp"
#include "tokenizer/prefix_trie.hpp"
#include "tokenizer/unicode.hpp"

namespace weldlm {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double unknown_penalty = 10;  // of a character that is no piece, below the lowest score
constexpr double least_expected_count = 0.5;
constexpr std::size_t words_at_once = 1024;
constexpr std::uint32_t unknown_id = PrefixTrie::nothing;

// A piece at a place in a text.
struct Edge {
  std::size_t begin;
  std::size_t end;
  std::uint32_t id;
  double score;
};

double log_add(double a, double b) noexcept {
  if (a < b) std::swap(a, b);
  return b == -infinity ? a : a + std::log1p(std::exp(b - a));
}

// All pieces in a text, found once and walked several times. Its memory is used again.
class Lattice {
 public:
  Lattice(const std::vector<ScoredPiece>& pieces, const PrefixTrie& trie, double unknown_score)
      : pieces_(pieces), trie_(trie), unknown_score_(unknown_score) {}

  void set_text(std::string_view text) {
    size_ = text.size();
    edges_.clear();
    for (std::size_t begin = 0; begin < text.size(); begin += char_at(text, begin).size) {
      add_edges(text, begin);
    }
  }

  // Calls visit(id, probability) for each edge of a piece.
  template <typename Visit>
  void for_each_probability(const Visit& visit) {
    forward_.assign(size_ + 1, -infinity);
    backward_.assign(size_ + 1, -infinity);
    forward_[0] = backward_[size_] = 0;
    for (const Edge& edge : edges_) {
      double& sum = forward_[edge.end];
      sum = log_add(sum, forward_[edge.begin] + edge.score);
    }
    for (auto edge = edges_.rbegin(); edge != edges_.rend(); ++edge) {
      double& sum = backward_[edge->begin];
      sum = log_add(sum, backward_[edge->end] + edge->score);
    }
    for (const Edge& edge : edges_) {
      if (edge.id == unknown_id) continue;
      visit(edge.id,
            std::exp(forward_[edge.begin] + edge.score + backward_[edge.end] - forward_[size_]));
    }
  }

  // The largest sum of the scores of edges from end to end, without the piece `excluded_id`; their
  // ids are best_ids(), the last one first.
  double find_best(std::uint32_t excluded_id) {
    forward_.assign(size_ + 1, -infinity);
    last_.assign(size_ + 1, nullptr);
    forward_[0] = 0;
    for (const Edge& edge : edges_) {
      const double sum = forward_[edge.begin] + edge.score;
      if (sum <= forward_[edge.end] || (edge.id == excluded_id && edge.id != unknown_id)) continue;
      forward_[edge.end] = sum;
      last_[edge.end] = &edge;
    }
    best_ids_.clear();
    if (last_[size_] == nullptr) return -infinity;
    for (std::size_t end = size_; end > 0; end = last_[end]->begin) {
      best_ids_.push_back(last_[end]->id);
    }
    return forward_[size_];
  }

  const std::vector<std::uint32_t>& best_ids() const noexcept { return best_ids_; }

 private:
  void add_edges(std::string_view text, std::size_t begin) {
    const std::size_t next = begin + char_at(text, begin).size;
    bool is_known = false;
    std::uint32_t node = PrefixTrie::root;
    for (std::size_t end = begin; end < text.size();) {
      node = trie_.child(node, text[end++]);
      if (node == PrefixTrie::nothing) break;
      const std::uint32_t id = trie_.id(node);
      if (id == PrefixTrie::nothing) continue;
      edges_.push_back({begin, end, id, pieces_[id].score});
      is_known = is_known || end == next;
    }
    if (!is_known) edges_.push_back({begin, next, unknown_id, unknown_score_});
  }

  const std::vector<ScoredPiece>& pieces_;
  const PrefixTrie& trie_;
  double unknown_score_;
  std::size_t size_ = 0;
  std::vector<Edge> edges_;  // in the order of `begin`
  std::vector<double> forward_;
  std::vector<double> backward_;
  std::vector<const Edge*> last_;
  std::vector<std::uint32_t> best_ids_;
};

PrefixTrie trie_of(const std::vector<ScoredPiece>& pieces) {
  std::vector<PrefixTrie::Entry> entries;
  entries.reserve(pieces.size());
  for (std::uint32_t id = 0; id < pieces.size(); ++id) entries.push_back({pieces[id].text, id});
  return PrefixTrie(std::move(entries));
}

double unknown_score_of(const std::vector<ScoredPiece>& pieces) {
  double least = 0;
  for (const ScoredPiece& piece : pieces) least = std::min(least, piece.score);
  return least - unknown_penalty;
}

// Calls visit(lattice of the word, count of the word, sums of the thread) for each word and
// returns the sums of all threads, one for each piece.
template <typename Visit>
std::vector<std::int64_t> sum_over_words(const std::vector<ScoredPiece>& pieces,
                                         const UnigramCorpus& corpus, const Visit& visit) {
  const PrefixTrie trie = trie_of(pieces);
  const std::size_t num_blocks = (corpus.words.size() + words_at_once - 1) / words_at_once;
  const std::size_t num_threads =
      std::max<std::size_t>(1, std::min(corpus.num_threads, num_blocks));
  std::vector<std::vector<std::int64_t>> sums(num_threads,
                                              std::vector<std::int64_t>(pieces.size()));
  std::vector<Lattice> lattices(num_threads, Lattice(pieces, trie, unknown_score_of(pieces)));
  parallel_for(num_blocks, num_threads, [&](std::size_t worker, std::size_t block) {
    const std::size_t end = std::min(corpus.words.size(), (block + 1) * words_at_once);
    for (std::size_t i = block * words_at_once; i < end; ++i) {
      lattices[worker].set_text(corpus.words[i].bytes);
      visit(lattices[worker], corpus.words[i].count, sums[worker]);
    }
    if (worker == 0) corpus.report();
  });
  for (std::size_t thread = 1; thread < num_threads; ++thread) {
    for (std::size_t id = 0; id < pieces.size(); ++id) sums[0][id] += sums[thread][id];
  }
  return std::move(sums[0]);
}

// What an expected count of 1 is in fixed point, so that no sum overflows.
double unit_of(const UnigramCorpus& corpus) {
  double most = 1;
  for (const auto& [bytes, count] : corpus.words) {
    most += static_cast<double>(count) * static_cast<double>(bytes.size());
  }
  return std::exp2(std::floor(std::min(61 - std::log2(most), 30.0)));
}

std::vector<std::int64_t> viterbi_counts(const std::vector<ScoredPiece>& pieces,
                                         const UnigramCorpus& corpus) {
  return sum_over_words(
      pieces, corpus, [](Lattice& lattice, std::int64_t count, std::vector<std::int64_t>& counts) {
        lattice.find_best(unknown_id);
        for (const std::uint32_t id : lattice.best_ids()) {
          if (id != unknown_id) counts[id] += count;
        }
      });
}

struct Candidate {
  std::size_t index;
  double loss;
};

// How much the log likelihood falls if the piece is replaced by the alternative, up to a factor.
double loss_of(std::size_t index, const std::vector<std::uint32_t>& alternative,
               const std::vector<std::int64_t>& counts, double total) {
  const auto count = static_cast<double>(counts[index]);
  const double log_total = std::log(total + count * (static_cast<double>(alternative.size()) - 1));
  double log_alternative = 0;
  for (const std::uint32_t id : alternative) {
    const double own = id == unknown_id ? 0 : static_cast<double>(counts[id]);
    log_alternative += std::log(own + count) - log_total;
  }
  return count * (std::log(count) - std::log(total) - log_alternative);
}

}  // namespace

double digamma(double x) noexcept {
  double result = 0;
  for (; x < 7; ++x) result -= 1 / x;
  const double y = 1 / ((x - 0.5) * (x - 0.5));
  // the asymptotic series around x - 1/2
  return result + std::log(x - 0.5) +
         y * (1.0 / 24 + y * (-7.0 / 960 + y * (31.0 / 8064 - y * 127.0 / 30720)));
}

void normalize_scores(std::vector<ScoredPiece>& pieces) {
  double sum = 0;
  for (const ScoredPiece& piece : pieces) sum += piece.score;
  for (ScoredPiece& piece : pieces) piece.score = std::log(piece.score) - std::log(sum);
}

std::vector<ScoredPiece> reestimated(const std::vector<ScoredPiece>& pieces,
                                     const UnigramCorpus& corpus) {
  const double unit = unit_of(corpus);
  const auto expect = [unit](Lattice& lattice, std::int64_t count,
                             std::vector<std::int64_t>& sums) {
    lattice.for_each_probability([&](std::uint32_t id, double probability) {
      sums[id] += std::llround(unit * static_cast<double>(count) * probability);
    });
  };
  const std::vector<std::int64_t> sums = sum_over_words(pieces, corpus, expect);
  std::vector<ScoredPiece> kept;
  double total = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const double expected = static_cast<double>(sums[i]) / unit;
    if (expected < least_expected_count) continue;
    kept.push_back({pieces[i].text, expected});
    total += expected;
  }
  // a sparse prior: counts are discounted by about a half
  for (ScoredPiece& piece : kept) piece.score = digamma(piece.score) - digamma(total);
  return kept;
}

std::vector<ScoredPiece> pruned(const std::vector<ScoredPiece>& pieces, const UnigramCorpus& corpus,
                                std::size_t num_kept) {
  const std::vector<std::int64_t> counts = viterbi_counts(pieces, corpus);
  double total = 0;
  for (const std::int64_t count : counts) total += static_cast<double>(count);
  const PrefixTrie trie = trie_of(pieces);
  Lattice lattice(pieces, trie, unknown_score_of(pieces));
  std::vector<ScoredPiece> kept;
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (counts[i] == 0) continue;
    lattice.set_text(pieces[i].text);
    const double score = lattice.find_best(static_cast<std::uint32_t>(i));
    if (lattice.best_ids().empty()) {
      kept.push_back(pieces[i]);
    } else if (score <= pieces[i].score) {
      candidates.push_back({i, loss_of(i, lattice.best_ids(), counts, total)});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.loss > b.loss; });
  for (const Candidate& candidate : candidates) {
    if (kept.size() >= num_kept) break;
    kept.push_back(pieces[candidate.index]);
  }
  return kept;
}

}  // namespace weldlm
