//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package guard

import "os"

// Serve is for the systems that have process groups.
func Serve([]string) {}

// IsTerminal reports whether f is a character device, which is near enough for a question to be asked.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
