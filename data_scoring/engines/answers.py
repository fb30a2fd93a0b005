"""Which tokens of a conversation that was read as text are of an answer."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data_common.chat.quoting import in_answer
from data_common.chat.texts import RowText
from data_common.files.atomic import save_array
from data_common.files.work_folder import WorkFolder
from data_common.messages.errors import UserError
from data_common.models.likelihood import Documents
from data_common.models.special_tokens import special_names
from data_common.models.tokens import ENCODE_BATCH, batched, special_tokens


def find_answers(
    texts: Sequence[RowText], documents: Documents, tokenizer, step: str, tokenized: str, work: WorkFolder
) -> tuple[np.ndarray, np.ndarray]:
    """-> (which of the predicted tokens are of an answer, (tokens,); its UTF-8 bytes in each row, (rows,), at least 1).

    documents: the same texts. step: that finds them, after the step `tokenized`.
    Raises: UserError for a tokenizer that does not tell where its tokens stand, or where no row has an answer.
    """
    if not tokenizer.is_fast:
        raise UserError("score_tokens=answer needs a tokenizer with tokenizer.json: answers are found by characters")

    def write(folder: Path) -> dict[str, Any]:
        masks = (np.array(mask, bool) for batch in batched(texts, ENCODE_BATCH) for mask in _masks(batch, tokenizer))
        found = np.concatenate([np.empty(0, bool), *masks])
        if len(found) != documents.predicted.sum():
            raise AssertionError("the tokens of answers are not those of the texts")
        sizes = [max(1, sum(len(text[slice(*span)].encode()) for span in text.answers)) for text in texts]
        save_array(folder / "answers.npy", found)
        save_array(folder / "bytes.npy", np.array(sizes, np.int64))
        return {"answer_tokens": int(found.sum())}

    if not work.step(step, {}, (tokenized,), write, alone=True)["answer_tokens"]:
        raise UserError("no row has an answer to score")
    return np.load(work.path / step / "answers.npy"), np.load(work.path / step / "bytes.npy")


def _masks(texts: Sequence[RowText], tokenizer) -> Iterator[list[bool]]:
    """Of the predicted tokens of each text: all behind its first one, BOS or of the text."""
    start, marks = special_tokens(tokenizer)[0], set(tokenizer.convert_tokens_to_ids(special_names(tokenizer)))
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    encoded = tokenizer(list(texts), **options)
    for text, ids, places in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        of_text = (in_answer(place, text.answers, one in marks) for one, place in zip(ids, places, strict=True))
        yield list(chain([False] * len(start), of_text))[1:]
