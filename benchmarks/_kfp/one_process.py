"""Program of a pod: a whole run in one process, `one_process.py WORKSPACE RUN BUNDLE`: what a run on the cluster is compared with."""

import sys

from optimas_core.artifacts import Lease
from optimas_core.controller import Controller
from optimas_core.launchers._tasks import open_task
from optimas_core.launchers.in_process import InProcessLauncher

context = open_task(*sys.argv[1:4], for_the_test=True)
lease = Lease(context.run)
lease.acquire()
launcher = InProcessLauncher(context)
with lease.keep():
    last = Controller(context, launcher, lease).run()
launcher.close()
print(last.phase, last.stop_reason)
