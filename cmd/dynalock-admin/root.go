package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dynalock/dynalock/dynalock"
)

// app is one invocation: its streams and the global flags.
type app struct {
	in       *os.File
	out, err *os.File

	table, region, profile, endpoint string
	partitionKey, sortKey, sortValue string
	namespace                        string
	dialect                          dialect
	output                           format
	timeout                          time.Duration
	verbose                          bool
	reached                          bool // the command itself, with its input accepted

	// What is reached outside of this process. Tests with arbitrary arguments put something harmless here.
	db     *dynamodb.Client // instead of the one of the flags and the environment
	lookUp func(command string) (path string, err error)
	listen func(network, address string) (net.Listener, error)
}

func newApp(in, out, err *os.File) *app {
	return &app{in: in, out: out, err: err, lookUp: exec.LookPath, listen: net.Listen}
}

// dialect is the flag of a dynalock.Dialect.
type dialect dynalock.Dialect

// Set implements pflag.Value.
func (d *dialect) Set(s string) error {
	switch s {
	case "awslabs":
		*d = dialect(dynalock.DialectAWSLabs)
	case "dynamolock":
		*d = dialect(dynalock.DialectDynamolock)
	default:
		return errors.New("unknown dialect")
	}
	return nil
}

// String implements pflag.Value.
func (d *dialect) String() string { return strings.ToLower(dynalock.Dialect(*d).String()) }

// Type implements pflag.Value.
func (d *dialect) Type() string { return "dialect" }

// run executes the command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !a.reached && !errors.As(err, &exit) { // what cobra says about the command line
		err = usagef("%s; see dynalock-admin --help", strings.Join(strings.Fields(err.Error()), " "))
	}
	if !errors.As(err, &exit) || exit.err != nil {
		a.say("dynalock-admin: " + message(err))
	}
	return exitCode(err)
}

// say writes a line for people. If it cannot be written, nothing else changes.
func (a *app) say(line string) { _, _ = fmt.Fprintln(a.err, line) }

// do wraps the work of a command: from here on errors are not about the command line.
func (a *app) do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.reached = true
		return f(cmd.Context(), named(cmd, args))
	}
}

// named takes the quotes off the names among the arguments: those before --.
func named(cmd *cobra.Command, args []string) []string {
	names := cmd.ArgsLenAtDash()
	if names < 0 {
		names = len(args)
	}
	args = slices.Clone(args)
	for i := range args[:names] {
		args[i] = meant(args[i])
	}
	return args
}

// quoted is a name as we print it: as it is, or in double quotes if it would be misread as it is.
func quoted(name string) string {
	if name != clean(name) || name != strings.TrimSpace(name) || strings.HasPrefix(name, `"`) {
		return strconv.Quote(name)
	}
	return name
}

// meant is the name that an argument stands for: the reverse of quoted.
func meant(arg string) string {
	if name, err := strconv.Unquote(arg); err == nil && strings.HasPrefix(arg, `"`) {
		return name
	}
	return arg
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dynalock-admin",
		Short: "The operator's tool of dynalock: lease-based locks, with fencing, on DynamoDB",
		Long: `The operator's tool of dynalock: lease-based locks, with fencing, on DynamoDB.

Global flags say where the locks are. Each may be replaced by the environment variable that its line names.
Credentials, Region and endpoint are those of the AWS SDK, unless these flags or variables say otherwise. If the
endpoint is on the loopback interface and no credentials are configured, dummy credentials are used.

A KEY, JOB, PERIOD or CANDIDATE that the output shows in double quotes may be given in them (in the shell: '"a\nb"').
Any other name is taken literally. Patterns are not expanded: list --prefix shows the keys that begin with a text.

` + exitCodes,
		Example: `  dynalock-admin list --table locks --state held    list the locks that are held
  dynalock-admin get KEY --table locks              show who holds a lock, since when and why, or who freed it
  dynalock-admin release KEY --table locks          free a lock: it shows the lock and asks
  dynalock-admin run KEY --table locks -- COMMAND   run a command while holding it`,
		Version: version(),

		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); args[0] != "" && len(near) > 0 {
				text += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("%s; see dynalock-admin --help", text)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if a.timeout < 0 {
				return usagef("--timeout is %v, allowed: 0 or more", a.timeout)
			}
			return fromEnvironment(cmd.Root().PersistentFlags())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")

	a.output = formatTable
	f := root.PersistentFlags()
	f.StringVar(&a.table, "table", "", "name or ARN of the table (or $DYNALOCK_TABLE)")
	f.StringVar(&a.endpoint, "endpoint-url", "", "endpoint instead of AWS's (or $DYNALOCK_ENDPOINT_URL)")
	f.StringVar(&a.region, "region", "", "AWS Region (or $AWS_REGION, or as the SDK finds it)")
	f.StringVar(&a.profile, "profile", "", "AWS profile (or $DYNALOCK_PROFILE, or as the SDK finds it)")
	f.StringVar(&a.namespace, "namespace", "", "prefix of every key (or $DYNALOCK_NAMESPACE)")
	f.StringVar(&a.partitionKey, "partition-key", "key", "name of the table's partition key (or $DYNALOCK_PARTITION_KEY)")
	f.StringVar(&a.sortKey, "sort-key", "", "name of the table's sort key (or $DYNALOCK_SORT_KEY; default: it has none)")
	f.StringVar(&a.sortValue, "sort-value", "", "value of the sort key that all locks have (or $DYNALOCK_SORT_VALUE)")
	f.Var(&a.dialect, "dialect", "how leases are written into new items: awslabs or dynamolock (or $DYNALOCK_DIALECT)")
	f.VarP(&a.output, "output", "o", "table or json")
	f.DurationVar(&a.timeout, "timeout", time.Minute,
		"bound on the requests to DynamoDB; of run, once and elect it bounds the first attempt, and --wait the wait for a lock that is held; 0: no bound")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "write the library's log to standard error")

	root.AddCommand(a.tableCommand(), a.listCommand(), a.getCommand(), a.releaseCommand(), a.runCommand(),
		a.onceCommand(), a.runsCommand(), a.rerunCommand(), a.pauseCommand(), a.unpauseCommand(),
		a.electCommand(), a.leaderCommand(), a.handOverCommand(), a.serveCommand(), a.versionCommand())
	completes(root, "output", string(formatTable), string(formatJSON))
	completes(root, "dialect", "awslabs", "dynamolock")
	root.SetHelpCommand(helpCommand(root))
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch {
		case cmd.Name() == "completion": // which takes an unknown shell for a call for help
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, needsCommand
			for _, shell := range cmd.Commands() {
				write := shell.RunE
				shell.Args = noArgs
				shell.RunE = func(cmd *cobra.Command, args []string) error {
					a.reached = true
					return write(cmd, args)
				}
			}
		case cmd.ValidArgsFunction == nil: // keys are no files
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	return root
}

// variables may replace global flags: those that say where a lock is, and how it is written.
var variables = []struct{ flag, name string }{
	{"table", "DYNALOCK_TABLE"},
	{"endpoint-url", "DYNALOCK_ENDPOINT_URL"},
	{"profile", "DYNALOCK_PROFILE"}, // AWS_PROFILE comes after keys in the environment, a flag before them
	{"namespace", "DYNALOCK_NAMESPACE"},
	{"partition-key", "DYNALOCK_PARTITION_KEY"},
	{"sort-key", "DYNALOCK_SORT_KEY"},
	{"sort-value", "DYNALOCK_SORT_VALUE"},
	{"dialect", "DYNALOCK_DIALECT"},
}

// fromEnvironment sets the flags that the command line leaves out. A flag that is given, even as "", goes before its
// variable.
func fromEnvironment(f *pflag.FlagSet) error {
	for _, v := range variables {
		text := os.Getenv(v.name)
		if text == "" || f.Changed(v.flag) {
			continue
		}
		if flag := f.Lookup(v.flag); flag.Value.Set(text) != nil {
			return usagef("%s is %q, allowed: %s", v.name, text, allowed(flag))
		}
	}
	return nil
}

// environ is our environment with what the flags say of where a lock is, so that a nested dynalock-admin addresses the
// same lock.
func (a *app) environ(f *pflag.FlagSet) []string {
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return slices.ContainsFunc(variables,
			func(v struct{ flag, name string }) bool { return strings.HasPrefix(entry, v.name+"=") })
	})
	set := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	for _, v := range variables {
		set(v.name, f.Lookup(v.flag).Value.String())
	}
	set("AWS_REGION", a.region)
	set("AWS_PROFILE", a.profile)
	return env
}

// flagError says which values a flag may have, if it has another one.
func flagError(err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef("--%s is %q, allowed: %s", bad.GetFlag().Name, bad.GetValue(), allowed(bad.GetFlag()))
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return usagef("--%s needs a value, allowed: %s", missing.GetFlag().Name, allowed(missing.GetFlag()))
	}
	return err
}

// allow notes which values a flag may have, if its type does not say it.
func allow(cmd *cobra.Command, flag, text string) {
	_ = cmd.Flags().SetAnnotation(flag, "allowed", []string{text}) // the flag exists
}

// allowed is which values a flag may have.
func allowed(f *pflag.Flag) string {
	if noted := f.Annotations["allowed"]; len(noted) > 0 {
		return noted[0]
	}
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "duration":
		return "a duration such as 5s or 1m30s"
	case "seconds":
		return "seconds, or a duration such as 1m30s"
	case "dialect":
		return "awslabs or dynamolock"
	case "format":
		return "table or json"
	}
	return "a text"
}

// completes tells the shell which values a flag may have.
func completes(cmd *cobra.Command, flag string, values ...string) {
	// the flag exists
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// helpCommand is cobra's but for unknown commands, which are an error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("no command %q to help with; see dynalock-admin --help", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// needsCommand refuses a command that is only a group of others.
func needsCommand(cmd *cobra.Command, args []string) error {
	names := []string{}
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	allowed := strings.Join(names, ", ")
	if len(args) > 0 {
		return usagef("unknown command %q for %s, allowed: %s", args[0], cmd.Name(), allowed)
	}
	return usagef("%s needs a command: %s", cmd.Name(), allowed)
}

// noArgs accepts flags alone.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q", strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), args[0])
	}
	return nil
}

// oneKey accepts a single argument, the key.
func oneKey(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s needs exactly one KEY, got %d arguments", cmd.Name(), len(args))
	}
	return nil
}

// courtesy is how long the end of an invocation waits for a store that does not answer: for one more read, or to
// release a lock that an attempt without an answer may have won.
const courtesy = 500 * time.Millisecond

// bounded bounds requests to DynamoDB by --timeout.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return within(ctx, a.timeout)
}

// within makes a context that ends after limit; 0: by its parent or by cancel alone.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// tableName is the table of the flags or of the environment.
func (a *app) tableName() (string, error) {
	if a.table == "" {
		return "", usagef("no table: set --table or DYNALOCK_TABLE")
	}
	return a.table, nil
}

// client makes a client of the library. It does no I/O except to find credentials.
func (a *app) client(ctx context.Context, optFns ...func(*dynalock.Options)) (*dynalock.Client, error) {
	table, err := a.tableName()
	if err != nil {
		return nil, err
	}
	db, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return dynalock.New(db, table, append([]func(*dynalock.Options){a.options}, optFns...)...)
}

// options are those of the library that flags set.
func (a *app) options(o *dynalock.Options) {
	o.PartitionKey, o.SortKey, o.SortValue = a.partitionKey, a.sortKey, a.sortValue
	o.Namespace, o.Dialect = a.namespace, dynalock.Dialect(a.dialect)
	if a.verbose {
		o.Logger = slog.New(slog.NewTextHandler(io.Writer(a.err), nil))
	}
}

// tableOptions are those of the table that flags set.
func (a *app) tableOptions(o *dynalock.TableOptions) {
	o.PartitionKey, o.SortKey = a.partitionKey, a.sortKey
}

// region is what the SDK makes part of a host's name.
var region = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// connect makes the SDK's client and finds credentials, so that missing ones are reported at once and in plain words.
func (a *app) connect(ctx context.Context) (*dynamodb.Client, error) {
	if err := checkEndpoint(a.endpoint, ""); err != nil {
		return nil, err
	}
	if a.db != nil {
		return a.db, nil
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	cfg, db, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region != "" && !region.MatchString(cfg.Region) {
		return nil, usagef("the Region is %q, allowed: a name such as eu-central-1", cfg.Region)
	}
	endpoint := aws.ToString(db.Options().BaseEndpoint)
	if err := checkEndpoint(endpoint, " (of AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL or the profile)"); err != nil {
		return nil, err
	}
	if isLoopback(endpoint) {
		return a.connectLocal(ctx)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, &exitError{
			exitStore,
			fmt.Errorf("no AWS credentials (set --profile or AWS_PROFILE, or run with a role): %s", cause(err)),
		}
	}
	return db, nil
}

// load reads the SDK's configuration. It sends no request.
func (a *app) load(
	ctx context.Context, optFns ...func(*config.LoadOptions) error,
) (aws.Config, *dynamodb.Client, error) {
	if a.region != "" {
		optFns = append(optFns, config.WithRegion(a.region))
	}
	if a.profile != "" {
		optFns = append(optFns, config.WithSharedConfigProfile(a.profile))
	}
	if !a.verbose { // an error is one line, and what the SDK remarks besides is none
		optFns = append(optFns, config.WithLogger(logging.Nop{}))
	}
	cfg, err := config.LoadDefaultConfig(ctx, optFns...)
	if err != nil {
		text := cause(err)
		if bundle := os.Getenv("AWS_CA_BUNDLE"); bundle != "" && strings.Contains(text, "CA bundle") {
			text += fmt.Sprintf(" (AWS_CA_BUNDLE is %q)", bundle)
		}
		return cfg, nil, &exitError{exitStore, fmt.Errorf("the AWS configuration is wrong: %s", text)}
	}
	return cfg, dynamodb.NewFromConfig(cfg, a.clientOptions), nil
}

// checkEndpoint refuses an endpoint that the SDK would refuse only at the first request, and in other words.
func checkEndpoint(endpoint, of string) error {
	if endpoint == "" {
		return nil
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usagef("endpoint URL is %q%s, allowed: http://HOST[:PORT] or https://HOST[:PORT]", endpoint, of)
	}
	return nil
}

func (a *app) clientOptions(o *dynamodb.Options) {
	if a.endpoint != "" {
		o.BaseEndpoint = aws.String(a.endpoint)
	}
	o.Interceptors.AddBeforeDeserialization(looksLikeDynamoDB{})
}

// looksLikeDynamoDB refuses the answers of any other server at an endpoint. The SDK makes a parser's error of most of
// them, but takes an empty one for success, and then a command would run without a lock.
type looksLikeDynamoDB struct{}

// BeforeDeserialization implements smithyhttp.BeforeDeserializationInterceptor.
func (looksLikeDynamoDB) BeforeDeserialization(_ context.Context, in *smithyhttp.InterceptorContext) error {
	if in.Response == nil { // it was not waited for
		return nil
	}
	kind := in.Response.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "application/x-amz-json-") {
		return nil
	}
	asked := in.Response.Request.URL
	return &strangerError{asked.Scheme + "://" + asked.Host, in.Response.Status, kind}
}

// strangerError says that an answer is not DynamoDB's.
type strangerError struct{ endpoint, status, kind string }

func (e *strangerError) Error() string {
	return fmt.Sprintf("%s does not answer like DynamoDB: HTTP status %s, content type %q", e.endpoint, e.status, e.kind)
}

// connectLocal is for a server of this machine, which accepts any credentials. If none are configured, and no profile
// is named that should have them, dummies are used. The instance's role is not looked up: off EC2 that takes seconds.
func (a *app) connectLocal(ctx context.Context) (*dynamodb.Client, error) {
	cfg, _, err := a.load(ctx, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	if err != nil {
		return nil, err
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if a.profile != "" || os.Getenv("AWS_PROFILE") != "" {
			return nil, &exitError{exitStore, fmt.Errorf("the profile has no AWS credentials: %s", cause(err))}
		}
		cfg.Credentials = credentials.NewStaticCredentialsProvider("local", "local", "")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return dynamodb.NewFromConfig(cfg, a.clientOptions), nil
}

// isLoopback reports whether an endpoint is a server of this machine.
func isLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}
