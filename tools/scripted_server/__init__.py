"""The server's side of a written dialogue, on a socket, and a transport without one: for tests of clients.

It knows nothing of imapipe, so that no mistake is shared with it.
"""

from scripted_server.fake_transport import FakeTransport
from scripted_server.play import Feeding, ScriptedServer
from scripted_server.script import Script, read_script

__all__ = ["FakeTransport", "Feeding", "Script", "ScriptedServer", "read_script"]
