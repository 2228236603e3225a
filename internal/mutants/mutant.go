package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one seeded bug: a piece of the source, which must be there exactly once, and what stands in its place.
type mutant struct {
	name     string // for -run and for the published list
	file     string // from the root of the repository
	old, new string
	bug      string // the sentence that says what is wrong then
	// ref is what the bug breaks: "peer 3" (of the eighteen in dynalock/peers_test.go), a section of dynalock/doc.go,
	// or an exported name whose documentation promises otherwise.
	ref string
}

// all is the list, file by file.
func all() []mutant {
	list := slices.Concat(heartbeatMutants, acquireMutants, waitMutants, holderMutants, tokenMutants, storeMutants,
		itemMutants, roleMutants, lateMutants, runMutants, strangerMutants, wordMutants)
	slices.SortStableFunc(list, func(a, b mutant) int { return strings.Compare(a.file, b.file) })
	return list
}

// pkg is the folder of the package that the mutant changes.
func (m *mutant) pkg() string { return filepath.ToSlash(filepath.Dir(m.file)) }

// source is the mutated file. A text that is not there exactly once is an error: the list has gone stale.
func (m *mutant) source(root string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(b), m.old); n != 1 {
		return nil, fmt.Errorf("%s: the text to replace is %d times in %s, want once", m.name, n, m.file)
	}
	return []byte(strings.Replace(string(b), m.old, m.new, 1)), nil
}

// overlay writes what go's -overlay takes into dir, so that the tree stays as it is, and returns the path.
func (m *mutant) overlay(root, dir string) (string, error) {
	source, err := m.source(root)
	if err != nil {
		return "", err
	}
	return overlay(root, dir, m.file, source)
}

// overlay writes an overlay that replaces one file.
func overlay(root, dir, file string, source []byte) (string, error) {
	mutated, list := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(mutated, source, 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, file): mutated}})
	if err != nil {
		return "", err
	}
	return list, os.WriteFile(list, b, 0o600)
}
