//go:build race

package main

// raceDetector: it keeps memory of its own for what the program has used once, so that RSS says nothing about the
// program.
const raceDetector = true
