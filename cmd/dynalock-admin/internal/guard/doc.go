// Package guard runs a command in a process group of its own, so that the command can be ended with everything that
// it has started, and tells when all of that is dead.
//
// Processes that leave the group (daemons, the jobs of an interactive shell) are out of its sight. On Linux the
// kernel kills the command when this process dies; what the command has started itself it leaves alone, and elsewhere
// the command, too.
package guard
