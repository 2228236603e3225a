// Build makes the deployment packages of both functions, for the runtime provided.al2023 and each architecture:
//
//	go run ./build               # dist/job-arm64.zip, dist/job-x86_64.zip, and the same of consumer
//	go run ./build -arch arm64   # one architecture, named as Lambda and Terraform name it
//
// The same source and the same version of Go make the same bytes, on whatever machine and in whatever folder, so a
// package changes only when the function does.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// architectures are Lambda's names of Go's.
var architectures = map[string]string{"arm64": "arm64", "x86_64": "amd64"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	dir := flags.String("out", "dist", "`FOLDER` of the packages")
	arch := flags.String("arch", "arm64,x86_64", "`ARCHITECTURES` to build for, separated by commas")
	functions := flags.String("functions", "job,consumer", "`FUNCTIONS` to build, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	for _, function := range strings.Split(*functions, ",") {
		for _, a := range strings.Split(*arch, ",") {
			path := filepath.Join(*dir, function+"-"+a+".zip")
			if err := pack(ctx, ".", function, a, path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			fmt.Fprintln(out, path)
		}
	}
	return nil
}

// pack builds a function of the module in folder module and puts it into a package.
func pack(ctx context.Context, module, function, arch, path string) error {
	goarch, ok := architectures[arch]
	if !ok {
		return fmt.Errorf("architecture is %q, allowed: arm64 or x86_64", arch)
	}
	dir, err := os.MkdirTemp("", "bootstrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := compile(ctx, module, function, goarch, bootstrap); err != nil {
		return err
	}
	program, err := os.ReadFile(bootstrap)
	if err != nil {
		return err
	}
	archive, err := archive(program)
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o644)
}

// compile leaves out of the program whatever differs between machines: paths, build ids, the state of the checkout,
// and settings of the environment.
func compile(ctx context.Context, module, function, goarch, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc",
		"-ldflags", "-s -w -buildid=", "-o", path, "./cmd/"+function)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	cmd.Dir, cmd.Stderr = module, os.Stderr
	return cmd.Run()
}

// archive makes a zip file with the program as Lambda wants it: executable, named bootstrap. Times are not of this day.
func archive(program []byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate,
		func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
