"""What a process that encodes needs, imported once in the server that such processes are forked from."""

import jinja2
import pyarrow
import transformers.tokenization_utils_tokenizers
import transformers.utils.chat_template_utils

import runner.data.pieces

__all__ = ["jinja2", "pyarrow", "runner", "transformers"]
