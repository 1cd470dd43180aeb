"""What a chat template without tools leaves out is told."""

from runner.core.types import Example, Message
from tests.data.test_encode import encoder, turn


def test_the_report_tells_what_a_template_without_tools_leaves_out() -> None:
    """Answers were learned as if there were no tools, and calls in the context were gone, without a word."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    one = encoder()
    one.encode(Example((*turn("a", "one"),), tools=(tool,)))
    called = Message("assistant", "", (call,), loss=False)
    one.encode(Example((Message("user", "b"), called, Message("tool", "sunny"), Message("assistant", "two"))))
    assert one.notes["rows whose tools the chat template does not show"] == 1
    assert one.notes["rows with tool calls that the chat template leaves out"] == 1
