// The steps of Unigram training: expectation and maximization of the scores, and the removal of
// pieces that the words can do without. Kudo, "Subword Regularization", 2018; the prior and the
// loss are those of sentencepiece.
//
// Sums over the words are sums of integers (expected counts in fixed point), so they do not depend
// on the order, and results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "tokenizer/unigram_seeds.hpp"
#include "tokenizer/word_counts.hpp"

namespace weldlm {

struct UnigramCorpus {
  std::vector<WordCounts::Word> words;
  std::size_t num_threads;
  std::function<void()> report;  // called now and then by the calling thread; may throw to stop
};

// Makes log probabilities of counts.
void normalize_scores(std::vector<ScoredPiece>& pieces);

// One step of EM. Pieces that are expected less than half a time are left out.
std::vector<ScoredPiece> reestimated(const std::vector<ScoredPiece>& pieces,
                                     const UnigramCorpus& corpus);

// The `num_kept` pieces without which the likelihood of the words falls the most, and those that
// nothing can stand for.
std::vector<ScoredPiece> pruned(const std::vector<ScoredPiece>& pieces, const UnigramCorpus& corpus,
                                std::size_t num_kept);

// The derivative of the logarithm of the gamma function, for x > 0.
double digamma(double x) noexcept;

}  // namespace weldlm
