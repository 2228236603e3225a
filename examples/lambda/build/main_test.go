package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheSameSourceMakesTheSamePackageWhereverItLies(t *testing.T) {
	t.Parallel()
	var packages [][]byte
	for _, folder := range []string{"here", "some/where/else"} {
		module := filepath.Join(t.TempDir(), folder)
		for name, text := range map[string]string{
			"go.mod":             "module example.com/f\n\ngo 1.26\n",
			"cmd/hello/hello.go": "package main\n\nfunc main() { panic(\"where am I?\") }\n", // its trace has paths
		} {
			path := filepath.Join(module, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(text), 0o600))
		}
		path := filepath.Join(module, "hello.zip")
		must(t, pack(t.Context(), module, "hello", "arm64", path))
		b, err := os.ReadFile(path)
		must(t, err)
		packages = append(packages, b)
	}
	if !bytes.Equal(packages[0], packages[1]) {
		t.Errorf("two packages of %d and %d bytes differ", len(packages[0]), len(packages[1]))
	}

	z, err := zip.NewReader(bytes.NewReader(packages[0]), int64(len(packages[0])))
	must(t, err)
	if len(z.File) != 1 || z.File[0].Name != "bootstrap" || z.File[0].Mode() != 0o755 {
		t.Fatalf("the package is not one executable file named bootstrap: %+v", z.File)
	}
	f, err := z.File[0].Open()
	must(t, err)
	program, err := io.ReadAll(f)
	must(t, err)
	e, err := elf.NewFile(bytes.NewReader(program))
	must(t, err)
	if e.Machine != elf.EM_AARCH64 || e.Section(".symtab") != nil || e.Section(".interp") != nil {
		t.Errorf("machine %v, sections %v: want a stripped, static program for arm64", e.Machine, e.Sections)
	}
}

func TestAnArchitectureThatLambdaDoesNotHaveIsRefused(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"-arch", "amd64", "-out", t.TempDir()}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "allowed: arm64 or x86_64") {
		t.Errorf("error %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
