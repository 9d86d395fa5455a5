"""The server's side of a dialogue, and a transport without a socket: for tests of clients.

It knows nothing of imapipe, so that no mistake is shared with it.
"""

from scripted_server.answering import AnsweringServer
from scripted_server.fake_transport import FakeTransport
from scripted_server.play import Feeding, ScriptedServer
from scripted_server.script import Script, read_script

__all__ = ["AnsweringServer", "FakeTransport", "Feeding", "Script", "ScriptedServer", "read_script"]
