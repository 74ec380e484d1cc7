"""Ask month.py to fork a run, and end as that run ends: the command that month.py gives nightly.sh as TAGGER.

The run gets this command's arguments, folder, environment, stdout, stderr and nightly.sh's lock (descriptor 9). The script
needs nothing but Python, so that it starts in milliseconds.
"""

import json
import os
import socket
import sys
from pathlib import Path

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as month:
    month.connect(os.environ["MONTH_SOCKET"])
    asked = {"command": sys.argv[1:], "folder": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(month, [json.dumps(asked).encode()], [1, 2, 9])
    code = int(month.recv(16))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
