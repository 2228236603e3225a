package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	defaultRoundTrip = 5 * time.Millisecond
	lease            = 10 * time.Second
	heartbeat        = 2 * time.Second
)

// plan is what compare was told to do.
type plan struct {
	scenarios        []scenario
	contenders       []contender
	left             []leftOut
	runs, greedyRuns int
	roundTrip        time.Duration
	endpoint, format string
}

// compare plays every scenario with every contender. In each round all contenders have their run, one after the other,
// so that what the machine does meanwhile is shared out among them.
func compare(ctx context.Context, args []string) error {
	p, err := parsePlan(args)
	if err != nil {
		return err
	}
	m, err := p.measure(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if err := m.write(os.Stdout, p.format); err != nil {
		return err
	}
	for _, s := range m.Scenarios {
		for _, c := range s.Contenders {
			if len(c.Failed) > 0 {
				return fmt.Errorf("%s, %s: %s", s.Name, c.Name, c.Failed[0])
			}
		}
	}
	return nil
}

func parsePlan(args []string) (plan, error) {
	var names, known []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	for _, c := range contenders {
		known = append(known, c.name)
	}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	list := flags.String("scenarios", strings.Join(append(names, sceneGreedy), ","),
		"comma-separated: alone, greedy, or CLIENTSxHOLD such as 16x50ms")
	chosen := flags.String("contenders", "", "comma-separated: "+strings.Join(known, ", ")+
		"; by default all whose server can be had")
	runs := flags.Int("runs", 5, "runs of each scenario and contender, 1 to 100; the figures are their medians")
	greedyFor := flags.Duration("greedy", 3*time.Minute, "how long the greedy pair works, 2s to 1h")
	greedyRuns := flags.Int("greedy-runs", 1, "runs of the greedy pair, 1 to 100")
	turns := flags.Int("turns", 0, "turns of each client, 1 to 10000; 0: what the scenario has")
	roundTrip := flags.Duration("round-trip", defaultRoundTrip, "what the proxy adds to a round trip, 0s to 1s")
	endpoint := flags.String("endpoint", os.Getenv("DYNALOCK_TEST_ENDPOINT"),
		"http://HOST:PORT of a DynamoDB Local; by default DYNALOCK_TEST_ENDPOINT or the embedded server")
	format := flags.String("o", "table", formats)
	if err := flags.Parse(args); err != nil {
		return plan{}, err
	}
	p := plan{runs: *runs, greedyRuns: *greedyRuns, roundTrip: *roundTrip, endpoint: *endpoint, format: *format}
	if flags.NArg() > 0 {
		return p, fmt.Errorf("compare takes flags only, not %q", flags.Arg(0))
	}
	if err := errors.Join(
		within("-runs", *runs, 1, 100), within("-greedy-runs", *greedyRuns, 1, 100), within("-turns", *turns, 0, 10000),
		within("-greedy", *greedyFor, 2*time.Second, time.Hour), within("-round-trip", *roundTrip, 0, time.Second),
		checkFormat(*format),
	); err != nil {
		return p, err
	}
	if *endpoint != "" {
		if _, err := upstreamOf(*endpoint); err != nil {
			return p, fmt.Errorf("-endpoint: %w", err)
		}
	}
	var err error
	if p.scenarios, err = parseScenarios(*list, *greedyFor); err != nil {
		return p, err
	}
	for i := range p.scenarios {
		if *turns > 0 && p.scenarios[i].turns > 0 {
			p.scenarios[i].turns = *turns
		}
	}
	p.contenders, p.left, err = choose(*chosen, known)
	return p, err
}

// within says which values a flag may have.
func within[T int | time.Duration](name string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s %v: it is between %v and %v", name, value, least, most)
	}
	return nil
}

// choose finds contenders by their names. Without names it takes all, but for those whose server is missing here.
func choose(list string, known []string) (chosen []contender, left []leftOut, err error) {
	names := known
	if list != "" {
		names = strings.Split(list, ",")
	}
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, nil, fmt.Errorf("-contenders: %q is none of %s", name, strings.Join(known, ", "))
		}
		if missing := lacks(contenders[i].server); missing != "" {
			if list != "" {
				return nil, nil, fmt.Errorf("-contenders: %s: %s", name, missing)
			}
			left = append(left, leftOut{name, missing})
			continue
		}
		chosen = append(chosen, contenders[i])
	}
	return chosen, left, nil
}

// lacks says why a server cannot be started here, "" if it can.
func lacks(server string) string {
	if server != serverRedis {
		return ""
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "redis-server is not on PATH (scripts/need redis-server=redis-server installs it)"
	}
	return ""
}

func (p plan) measure(ctx context.Context, progress io.Writer) (measurement, error) {
	m := measurement{
		Began: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), CPUs: runtime.NumCPU(), LoadBefore: load(),
		DynamoDB: "DynamoDB: the embedded server", RoundTripMS: ms(p.roundTrip), Runs: p.runs, LeftOut: p.left,
	}
	if p.endpoint != "" {
		m.DynamoDB = "DynamoDB: a server given by its endpoint"
	}
	for _, out := range p.left {
		fmt.Fprintf(progress, "%s is left out: %s\n", out.Name, out.Why)
	}
	addresses, stop, err := p.start()
	if err != nil {
		return m, err
	}
	defer stop()
	yardstick := newDB("http://"+addresses[serverDynamoDB], &meter{})
	if err := createTable(ctx, yardstick); err != nil {
		if existed := (*types.ResourceInUseException)(nil); !errors.As(err, &existed) {
			return m, err
		}
	}
	for range 10 { // the first requests of a Java server are slow
		if _, err := bare(ctx, yardstick); err != nil {
			return m, fmt.Errorf("bare UpdateItem: %w", err)
		}
	}
	for _, s := range p.scenarios {
		found := scenarioFound{
			Name: s.name, Text: s.String(), Clients: s.clients, HoldMS: ms(s.hold),
			FairRatio: rounded(s.fairRatio()),
		}
		for _, c := range p.contenders {
			found.Contenders = append(found.Contenders, contenderFound{Name: c.name, Label: c.label})
		}
		m.Scenarios = append(m.Scenarios, found)
	}
	for round := range max(p.runs, p.greedyRuns) {
		for i, s := range p.scenarios {
			if s.name == sceneGreedy && round >= p.greedyRuns || s.name != sceneGreedy && round >= p.runs {
				continue
			}
			found := &m.Scenarios[i]
			pair, err := bare(ctx, yardstick)
			if err != nil {
				return m, fmt.Errorf("bare UpdateItem: %w", err)
			}
			found.PairsMS = append(found.PairsMS, rounded(ms(pair)))
			for turn := range p.contenders {
				at := (turn + round) % len(p.contenders) // nobody is always the first
				one := &found.Contenders[at]
				f, waits, err := run(ctx, s, p.contenders[at], addresses, s.hold+pair)
				switch {
				case ctx.Err() != nil:
					return m, ctx.Err()
				case err != nil:
					one.Failed = append(one.Failed, err.Error())
					fmt.Fprintf(progress, "round %d, %s, %s: %v\n", round+1, s.name, one.Name, err)
				default:
					one.Runs, one.waits = append(one.Runs, f), append(one.waits, waits...)
					fmt.Fprintf(progress, "round %d, %s, %s: %.2f x best, longest / mean %.2f\n", round+1, s.name, one.Name,
						f.OverBest, f.Unfair)
				}
			}
		}
	}
	for i := range m.Scenarios {
		for j := range m.Scenarios[i].Contenders {
			m.Scenarios[i].Contenders[j].sumUp()
		}
	}
	m.LoadAfter = load()
	return m, nil
}

func (c *contenderFound) sumUp() {
	if len(c.Runs) == 0 {
		return
	}
	c.Median = new(medians(c.Runs))
	slices.Sort(c.waits)
	c.WaitsMS = evenly(c.waits, 100)
}

// start starts the servers that the contenders need, and the one of the yardstick. It returns the addresses of their
// proxies.
func (p plan) start() (addresses map[string]string, stop func(), err error) {
	addresses = map[string]string{}
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	servers := []string{serverDynamoDB}
	for _, c := range p.contenders {
		if !slices.Contains(servers, c.server) {
			servers = append(servers, c.server)
		}
	}
	for _, server := range servers {
		args := []string{"peer", "-server", server, "-round-trip", p.roundTrip.String()}
		if server == serverDynamoDB && p.endpoint != "" {
			upstream, err := upstreamOf(p.endpoint)
			if err != nil {
				stop()
				return nil, nil, err
			}
			args = append(args, "-upstream", upstream)
		}
		address, stopServer, err := startSelf(withoutGOMAXPROCS(), args...)
		if err != nil {
			stop()
			return nil, nil, err
		}
		addresses[server], stops = address, append(stops, stopServer)
	}
	return addresses, stop, nil
}

// bare is how long two UpdateItem of the SDK take, one after the other: the median of some.
func bare(ctx context.Context, db *dynamodb.Client) (time.Duration, error) {
	key := "bare-" + rand.Text()
	update := func() error {
		_, err := db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(table), Key: map[string]types.AttributeValue{"key": &types.AttributeValueMemberS{Value: key}},
			UpdateExpression:          aws.String("SET v = :v"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":v": &types.AttributeValueMemberS{Value: key}},
		})
		return err
	}
	if err := update(); err != nil { // the connection
		return 0, err
	}
	var pairs []time.Duration
	for range 25 {
		began := time.Now()
		if err := errors.Join(update(), update()); err != nil {
			return 0, err
		}
		pairs = append(pairs, time.Since(began))
	}
	slices.Sort(pairs)
	return pairs[len(pairs)/2], nil
}

// run plays a scenario once, with new clients and a new key. best is the least time that a turn could take.
func run(
	ctx context.Context, s scenario, c contender, addresses map[string]string, best time.Duration,
) (f figures, waits []float64, err error) {
	m := &meter{}
	var clients []client
	defer func() {
		for _, one := range clients {
			closing, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			if closed := one.close(closing); closed != nil && err == nil {
				err = fmt.Errorf("close: %w", closed)
			}
			done()
		}
	}()
	key := c.name + "-" + rand.Text()
	for i := range s.clients {
		one, err := c.open(ctx, addresses[c.server],
			settings{owner: fmt.Sprintf("client-%d", i), lease: lease, heartbeat: heartbeat}, m)
		if err != nil {
			return f, nil, fmt.Errorf("open: %w", err)
		}
		clients = append(clients, one)
		// Connections; also, nobody is the first to learn the address.
		l, err := one.acquire(ctx, fmt.Sprintf("warm-%s-%d", key, i))
		if err != nil {
			return f, nil, fmt.Errorf("first acquire: %w", err)
		}
		if err := l.release(ctx); err != nil {
			return f, nil, fmt.Errorf("first release: %w", err)
		}
	}
	// A run that hangs must not hang the measurement.
	limit := 30*time.Second + 10*best*time.Duration(s.turns*s.clients) + 2*s.length
	playing, done := context.WithTimeout(ctx, limit)
	defer done()
	before := m.read()
	out, err := s.play(playing, clients, key)
	used := m.read().minus(before)
	if err != nil {
		return f, nil, err
	}
	if len(out.waits) == 0 {
		return f, nil, errors.New("no turn was taken")
	}
	return figuresOf(out, used, c, best), allWaits(out), nil
}

// load is the machine's load averages, "unknown" where they cannot be read.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
