// Package guard runs a command in a process group of its own, so that the command can be ended with everything that
// it has started, and tells when all of that is dead.
//
// A guardian, a second process of this program in a session of its own, kills the group when this process is gone,
// however it ended, and when this process does not extend the command's time before that has run out: then it is
// stopped, or starved. The guardian holds the reading end of a pipe whose writing end only this process has. A guardian
// that dies is replaced.
//
// The command does not run before the guardian knows its group: this program starts a copy of itself in the group,
// which becomes the command (execve) when it is told to. So main has to call [Serve] before anything else.
//
// Processes that leave the group (daemons, the jobs of an interactive shell) are out of its sight. Linux is what this
// is tested on; elsewhere a command on a terminal cannot be stopped by its stop key, zombies count as alive, and
// orphans are not reaped.
package guard
