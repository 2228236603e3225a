//go:build !linux

package main

import "time"

// pause sleeps as precisely as the runtime does.
func pause(d time.Duration) { time.Sleep(d) }
