// SentencePiece: its models, its normalizer, what cuts text before U+2581.
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>

#include "bindings/tokenizer_bindings.hpp"
#include "tokenizer/sentencepiece_bpe.hpp"
#include "tokenizer/spiece_normalizer.hpp"
#include "tokenizer/text_rewriters.hpp"
#include "tokenizer/unigram.hpp"
#include "tokenizer/unigram_trainer.hpp"
#include "tokenizer/vocabulary.hpp"

namespace weldlm::bindings {
namespace {

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;
using DoubleArray = py::array_t<double, py::array::c_style | py::array::forcecast>;

template <typename Value>
std::vector<Value> vector_of(
    const py::array_t<Value, py::array::c_style | py::array::forcecast>& array) {
  return {array.data(), array.data() + array.size()};
}

std::vector<std::string> tokens_of(const Vocabulary& vocabulary) {
  std::vector<std::string> tokens;
  tokens.reserve(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    tokens.emplace_back(vocabulary.token(static_cast<std::int64_t>(id)));
  }
  return tokens;
}

void bind_unigram(py::module_& module) {
  py::enum_<UnigramRules>(module, "UnigramRules")
      .value("sentencepiece", UnigramRules::sentencepiece)
      .value("tokenizers", UnigramRules::tokenizers);
  py::class_<Unigram, Model, std::shared_ptr<Unigram>>(module, "Unigram")
      .def(py::init([](const Vocabulary& vocabulary, const DoubleArray& scores,
                       const IdArray& matched_ids, std::uint32_t unknown_id, double unknown_score,
                       Ids byte_ids, UnigramRules rules) {
             return std::make_shared<Unigram>(
                 UnigramVocabulary{tokens_of(vocabulary), vector_of(scores), vector_of(matched_ids),
                                   unknown_id, unknown_score, std::move(byte_ids), rules});
           }),
           py::arg("vocabulary"), py::arg("scores"), py::arg("matched_ids"), py::arg("unknown_id"),
           py::arg("unknown_score"), py::arg("byte_ids"), py::arg("rules"));
}

void feed(UnigramTrainer& trainer, const py::iterable& texts, std::size_t num_threads) {
  const Utf8Texts utf8 = texts_of(texts);
  const py::gil_scoped_release unlocked;
  trainer.feed(utf8.views(), num_threads);
}

py::tuple train(UnigramTrainer& trainer, std::int64_t vocab_size, std::int64_t num_special_tokens,
                double character_coverage, std::size_t max_piece_length, std::size_t num_seeds,
                std::int64_t num_sub_iterations, double shrinking_factor, std::size_t num_threads,
                const std::optional<std::function<void(std::size_t)>>& progress) {
  const UnigramTrainingOptions options{vocab_size,       num_special_tokens, character_coverage,
                                       max_piece_length, num_seeds,          num_sub_iterations,
                                       shrinking_factor};
  std::vector<ScoredPiece> pieces;
  {
    const py::gil_scoped_release unlocked;
    pieces = trainer.train(options, num_threads, training_report(progress));
  }
  std::vector<std::string> texts;
  std::vector<double> scores;
  for (ScoredPiece& piece : pieces) {
    texts.push_back(std::move(piece.text));
    scores.push_back(piece.score);
  }
  return py::make_tuple(list_of(texts), array_of(std::move(scores)));
}

void bind_unigram_trainer(py::module_& module) {
  py::class_<UnigramTrainer>(module, "UnigramTrainer")
      .def(py::init([](std::shared_ptr<Normalizer> normalizer) {
             return std::make_unique<UnigramTrainer>(std::move(normalizer));
           }),
           py::arg("normalizer").none(true))
      .def("feed", &feed, py::arg("texts"), py::arg("num_threads"))
      .def("train", &train, py::arg("vocab_size"), py::arg("num_special_tokens"),
           py::arg("character_coverage"), py::arg("max_piece_length"), py::arg("num_seeds"),
           py::arg("num_sub_iterations"), py::arg("shrinking_factor"), py::arg("num_threads"),
           py::arg("progress"));
}

CharacterBpeVocabulary bpe_vocabulary(const Vocabulary& vocabulary, const IdArray& merged_ids,
                                      const IdArray& unsplit_ids, std::uint32_t unknown_id,
                                      bool fuse_unknown, Ids byte_ids) {
  return {tokens_of(vocabulary), vector_of(merged_ids), vector_of(unsplit_ids), unknown_id,
          fuse_unknown,          std::move(byte_ids)};
}

void bind_sentencepiece_bpe(py::module_& module) {
  py::class_<SentencePieceBpe, Model, std::shared_ptr<SentencePieceBpe>>(module, "SentencePieceBpe")
      .def_static(
          "from_scores",
          [](const Vocabulary& vocabulary, const FloatArray& scores, const IdArray& merged_ids,
             const IdArray& unsplit_ids, std::uint32_t unknown_id, bool fuse_unknown,
             Ids byte_ids) {
            CharacterBpeVocabulary parts = bpe_vocabulary(
                vocabulary, merged_ids, unsplit_ids, unknown_id, fuse_unknown, std::move(byte_ids));
            const CharacterMerges merges =
                merges_by_score(parts.tokens, parts.merged_ids, vector_of(scores));
            return std::make_shared<SentencePieceBpe>(std::move(parts), merges);
          },
          py::arg("vocabulary"), py::arg("scores"), py::arg("merged_ids"), py::arg("unsplit_ids"),
          py::arg("unknown_id"), py::arg("fuse_unknown"), py::arg("byte_ids"))
      .def_static(
          "from_merges",
          [](const Vocabulary& vocabulary, const IdArray& merges, const IdArray& merged_ids,
             std::uint32_t unknown_id, bool fuse_unknown, Ids byte_ids) {
            CharacterBpeVocabulary parts = bpe_vocabulary(
                vocabulary, merged_ids, IdArray(), unknown_id, fuse_unknown, std::move(byte_ids));
            const CharacterMerges ranked = merges_by_rank(parts.tokens, merges_of(merges));
            return std::make_shared<SentencePieceBpe>(std::move(parts), ranked);
          },
          py::arg("vocabulary"), py::arg("merges"), py::arg("merged_ids"), py::arg("unknown_id"),
          py::arg("fuse_unknown"), py::arg("byte_ids"));
}

void bind_spiece_normalizer(py::module_& module) {
  py::class_<SpieceNormalizer, Normalizer, std::shared_ptr<SpieceNormalizer>>(module,
                                                                              "SpieceNormalizer")
      .def(py::init([](std::optional<py::bytes> charsmap, bool add_dummy_prefix,
                       bool remove_extra_whitespaces, bool escape_whitespaces,
                       bool treat_whitespace_as_suffix, const std::vector<std::string>& kept) {
             std::shared_ptr<const Charsmap> rules;
             if (charsmap) rules = std::make_shared<Charsmap>(std::string_view(*charsmap));
             const SpaceOptions options{add_dummy_prefix, remove_extra_whitespaces,
                                        escape_whitespaces, treat_whitespace_as_suffix};
             return std::make_shared<SpieceNormalizer>(std::move(rules), options, kept);
           }),
           py::arg("charsmap"), py::arg("add_dummy_prefix"), py::arg("remove_extra_whitespaces"),
           py::arg("escape_whitespaces"), py::arg("treat_whitespace_as_suffix"), py::arg("kept"));
}

void bind_cuts(py::module_& module) {
  py::enum_<MetaspaceCuts>(module, "MetaspaceCuts")
      .value("nowhere", MetaspaceCuts::nowhere)
      .value("before_runs", MetaspaceCuts::before_runs)
      .value("before_each", MetaspaceCuts::before_each);
  module.def(
      "metaspace_cuts", [](const std::vector<std::string>& tokens) { return cuts_of(tokens); },
      py::arg("tokens"));
  py::class_<MetaspaceCutter, Pretokenizer, std::shared_ptr<MetaspaceCutter>>(module,
                                                                              "MetaspaceCutter")
      .def(py::init<MetaspaceCuts>(), py::arg("cuts"));
}

template <typename Part, typename Base, typename... Arguments, typename... Names>
void bind_part(py::module_& module, const char* name, const Names&... names) {
  py::class_<Part, Base, std::shared_ptr<Part>>(module, name)
      .def(py::init<Arguments...>(), py::arg(names)...);
}

void bind_rewriters(py::module_& module) {
  py::class_<Precompiled, Normalizer, std::shared_ptr<Precompiled>>(module, "Precompiled")
      .def(py::init([](const py::bytes& charsmap) {
             return std::make_shared<Precompiled>(
                 std::make_shared<Charsmap>(std::string_view(charsmap)));
           }),
           py::arg("charsmap"));
  py::enum_<PrependScheme>(module, "PrependScheme")
      .value("always", PrependScheme::always)
      .value("first", PrependScheme::first)
      .value("never", PrependScheme::never);
  bind_part<Prepend, Normalizer, std::string>(module, "Prepend", "content");
  bind_part<Replace, Normalizer, std::string, std::size_t, std::string>(
      module, "Replace", "pattern", "least", "content");
  bind_part<Strip, Normalizer, bool, bool>(module, "Strip", "left", "right");
  bind_part<StripRuns, Normalizer, std::string, bool, bool>(module, "StripRuns", "pattern", "left",
                                                            "right");
  bind_part<Nmt, Normalizer>(module, "Nmt");
  bind_part<Metaspace, Normalizer, std::string, PrependScheme>(module, "Metaspace", "replacement",
                                                               "scheme");
  bind_part<MetaspaceWords, Normalizer, std::string>(module, "MetaspaceWords", "replacement");
  bind_part<DelimiterCutter, Pretokenizer, std::string>(module, "DelimiterCutter", "delimiter");
  bind_part<WhitespaceSplit, Pretokenizer>(module, "WhitespaceSplit");
}

}  // namespace

void bind_sentencepiece(py::module_& module) {
  bind_unigram(module);
  bind_unigram_trainer(module);
  bind_sentencepiece_bpe(module);
  bind_spiece_normalizer(module);
  bind_cuts(module);
  bind_rewriters(module);
}

}  // namespace weldlm::bindings
