package dynalock

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/dynalock/dynalock/heartbeat"
)

// The limits of what is accepted. A lease shorter than minLease cannot be kept over a network. One longer than maxLease
// would block all others for more than a day when its holder dies. An item with such a lease is foreign.
const (
	minLease = 100 * time.Millisecond
	maxLease = 24 * time.Hour

	maxPartitionKeyBytes = 2048 // DynamoDB's limit
	maxSortKeyBytes      = 1024 // DynamoDB's limit
	maxItemBytes         = 400 << 10
	maxLabelBytes        = 256 // owner and reason: labels, and the item should stay within one write unit
)

// Dialect is the form in which the lease is written into new items. Both forms are always read, and an existing item
// keeps its own.
type Dialect int

// The dialects.
const (
	DialectAWSLabs    Dialect = iota // leaseDuration "10000", milliseconds, as the AWS Labs Java lock client writes it
	DialectDynamolock                // leaseDuration "10s", as dynamolock for Go writes it
)

// String names the dialect.
func (d Dialect) String() string {
	switch d {
	case DialectAWSLabs:
		return "AWSLabs"
	case DialectDynamolock:
		return "dynamolock"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// Options of a [Client]. Zero fields take the documented defaults. [New] validates all fields together, and returns one
// error that names every bad field.
type Options struct {
	// Owner is a label for people, at most 256 bytes. It identifies nothing: every acquisition has a random id of its own.
	// Default: host/pid/random.
	Owner string

	// Lease is how long the lock outlives its last heartbeat. It is stored in the item, and waiters obey the stored lease,
	// not their own. 100 ms to 24 h, rounded up to a millisecond. Default 10 s.
	Lease time.Duration
	// Heartbeat is the time between two heartbeats. 1 ms to 3/4 of Lease - SafetyMargin, so that a failed heartbeat can be
	// retried. Default Lease/5.
	Heartbeat time.Duration
	// SafetyMargin is how long before others may take the lock its holder stops trusting it. Lease/20 to Lease/2. Default
	// Lease/5, which covers clocks whose rates differ by a factor of 1.25.
	SafetyMargin time.Duration
	// AttemptTimeout bounds one DynamoDB request. 1 ms to less than Lease - SafetyMargin. Default min(Heartbeat, 1 s).
	AttemptTimeout time.Duration

	// MinPoll and MaxPoll bound the adaptive wait between two looks at a held lock. 1 ms to 24 h each. Defaults 10 ms and
	// 1 s.
	MinPoll, MaxPoll time.Duration

	// MaxClockSkew, when above 0, lets a waiter believe the expiry that a holder stored: a lock whose expiry passed more
	// than this long ago is taken at first sight. Who sets it promises that no two wall clocks of the fleet differ by
	// more. At most 24 h. Default 0: no timestamp decides anything, a waiter only believes what it has watched.
	MaxClockSkew time.Duration

	// Retention, when above 0, gives a released item a DynamoDB TTL this far ahead, so that keys that are not used any
	// more leave the table. The table needs TTL on the attribute "ttl" ([TableOptions.TimeToLive]). It is not for tables
	// shared with dynamolock, which copies the TTL into the row of a lock that it holds. 15 min to 10 years, since a copy
	// of an old request must find the item. Default 0: released items stay.
	Retention time.Duration

	// Dialect of the lease in new items. Default [DialectAWSLabs].
	Dialect Dialect

	// PartitionKey names the table's partition key. Default "key".
	PartitionKey string
	// SortKey names the table's sort key, and SortValue is the value that all locks of this client have there. Set both or
	// neither. Default: the table has no sort key.
	SortKey, SortValue string

	// Namespace is a prefix of every key. Default: none.
	Namespace string

	// Logger gets a record of every [Event], at the level of its kind. Like Observer it is called on the path of
	// heartbeats, and must not block. Default: records are discarded.
	Logger *slog.Logger
	// Observer gets the same events as values, for metrics and traces. Default: none.
	Observer Observer

	clock heartbeat.Clock // the seam through which simulations give each client clocks of its own
	bump  func() uint64   // by how much a write bumps the version's counter; a seam for the model, which counts by one
}

// AcquireOptions of one acquisition. Zero fields take the client's values.
type AcquireOptions struct {
	// Data is the payload of the lock. nil keeps the stored payload, and an empty slice empties it.
	Data []byte
	// Reason is shown to waiters, at most 256 bytes.
	Reason string
	// Lease of this lock. 100 ms to 24 h, rounded up to a millisecond. Default: the client's.
	Lease time.Duration
	// NoHeartbeat makes the lease static: nothing is renewed in the background, and the lock is lost at its deadline
	// unless [Lock.Renew] is called. It is for Lambda functions, which are frozen between invocations.
	NoHeartbeat bool
	// MaxHold ends the tenure after this long, even if its heartbeats succeed, so that a worker that hangs does not hold
	// the lock forever. At that moment the lock is lost ([heartbeat.ErrLimit]), and is not renewed any more. Others can
	// take it when the lease has expired, so that the worker has the rest of the lease to stop. Default 0: no limit.
	MaxHold time.Duration
	// DeleteOnRelease has DynamoDB delete the item, 15 minutes after its release at the earliest, unless the key is locked
	// again. Until then the item keeps copies of old requests from applying. It is for keys that are used once. It sets a
	// TTL, as [Options].Retention does, and needs the same of the table: without TTL on the attribute "ttl" the item
	// stays. After the deletion the fencing token of the next tenure is made of DynamoDB's time.
	DeleteOnRelease bool
}

// timing is what follows from a lease and from what the user has set.
type timing struct {
	lease, period, trust, attempt time.Duration
}

// timing derives the timing of one lock from the user's values, and from the lease where there are none.
func (o *Options) timing(lease time.Duration) (timing, []error) {
	var errs []error
	for _, f := range []struct {
		field string
		value time.Duration
	}{{"SafetyMargin", o.SafetyMargin}, {"Heartbeat", o.Heartbeat}, {"AttemptTimeout", o.AttemptTimeout}} {
		if f.value < 0 || f.value > maxLease { // whatever the lease
			errs = append(errs, badField(f.field, f.value, "0 (the default) to 24h, within the lease"))
		}
	}
	if len(errs) > 0 && lease >= minLease && lease <= maxLease {
		return timing{}, errs
	}
	if lease < minLease || lease > maxLease {
		errs = append(errs, badField("Lease", lease, "100ms to 24h"))
		return timing{}, errs
	}
	margin := o.SafetyMargin
	if margin == 0 {
		margin = lease / 5
	}
	if margin < lease/20 || margin > lease/2 {
		errs = append(errs, badField("SafetyMargin", margin,
			fmt.Sprintf("%v to %v (1/20 to 1/2 of the lease of %v)", lease/20, lease/2, lease)))
		return timing{}, errs
	}
	t := timing{lease: lease, period: o.Heartbeat, trust: lease - margin, attempt: o.AttemptTimeout}
	if t.period == 0 {
		t.period = lease / 5
	}
	if t.period < time.Millisecond || t.period > t.trust*3/4 {
		errs = append(errs, badField("Heartbeat", t.period,
			fmt.Sprintf("1ms to %v (3/4 of the lease of %v less the safety margin of %v)", t.trust*3/4, lease, margin)))
	}
	if t.attempt == 0 {
		t.attempt = min(max(t.period, time.Millisecond), time.Second)
	}
	if t.attempt < time.Millisecond || t.attempt >= t.trust {
		errs = append(errs, badField("AttemptTimeout", t.attempt,
			fmt.Sprintf("1ms to below %v (the lease of %v less the safety margin of %v)", t.trust, lease, margin)))
	}
	return t, errs
}

// wholeMillis rounds a lease up to a millisecond, as the item has it. A lease that is refused is not rounded, so that
// the error shows it as it was given.
func wholeMillis(lease time.Duration) time.Duration {
	if rest := lease % time.Millisecond; rest > 0 && lease > minLease-time.Millisecond && lease < maxLease {
		return lease - rest + time.Millisecond
	}
	return lease
}

// validate fills in the defaults and names every bad field.
func (o *Options) validate() error {
	if o.Lease == 0 {
		o.Lease = 10 * time.Second
	}
	if o.MinPoll == 0 {
		o.MinPoll = 10 * time.Millisecond
		if o.MaxPoll > 0 {
			o.MinPoll = min(o.MinPoll, o.MaxPoll)
		}
	}
	if o.MaxPoll == 0 {
		o.MaxPoll = max(time.Second, o.MinPoll)
	}
	if o.PartitionKey == "" {
		o.PartitionKey = "key"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.clock == nil {
		o.clock = heartbeat.SystemClock()
	}
	if o.bump == nil {
		o.bump = bump
	}

	o.Lease = wholeMillis(o.Lease)
	_, errs := o.timing(o.Lease)
	errs = append(errs, badText("Owner", o.Owner, maxLabelBytes)...)
	errs = append(errs, badText("SortValue", o.SortValue, maxSortKeyBytes)...)
	errs = append(errs, badText("Namespace", o.Namespace, maxPartitionKeyBytes-1)...)
	if o.MinPoll < time.Millisecond || o.MinPoll > maxLease {
		errs = append(errs, badField("MinPoll", o.MinPoll, "1ms to 24h"))
	}
	if o.MaxPoll < o.MinPoll || o.MaxPoll > maxLease {
		errs = append(errs, badField("MaxPoll", o.MaxPoll, fmt.Sprintf("MinPoll (%v) to 24h", o.MinPoll)))
	}
	if o.MaxClockSkew < 0 || o.MaxClockSkew > maxLease {
		errs = append(errs, badField("MaxClockSkew", o.MaxClockSkew, "0 to 24h"))
	}
	if o.Retention != 0 && (o.Retention < tombstone || o.Retention > 10*365*24*time.Hour) {
		errs = append(errs, badField("Retention", o.Retention, "0, or 15m to 10 years"))
	}
	if o.Dialect != DialectAWSLabs && o.Dialect != DialectDynamolock {
		errs = append(errs, badField("Dialect", o.Dialect, "DialectAWSLabs or DialectDynamolock"))
	}
	errs = append(errs, validateKeyNames(o.PartitionKey, o.SortKey)...)
	if (o.SortKey == "") != (o.SortValue == "") {
		errs = append(errs, fmt.Errorf("SortKey is %q and SortValue is %q, allowed: both or neither", o.SortKey, o.SortValue))
	}
	return invalid(errs)
}

// validateKeyNames refuses key attributes that a table cannot have, or that would collide with ours.
func validateKeyNames(partition, sort string) []error {
	var errs []error
	for _, f := range []struct{ field, name string }{{"PartitionKey", partition}, {"SortKey", sort}} {
		if len(f.name) > 255 {
			errs = append(errs, badLength(f.field, f.name, 1, 255))
		}
		if reservedAttributes[f.name] {
			errs = append(errs, fmt.Errorf("%s is %q, allowed: a name that is not an attribute of a lock item", f.field, f.name))
		}
	}
	if partition == sort {
		errs = append(errs, fmt.Errorf("SortKey is %q, allowed: a name other than that of PartitionKey", sort))
	}
	return errs
}

// validate checks the options of one acquisition together with its key.
func (a *AcquireOptions) validate(c *Client, key string) (timing, error) {
	if a.Lease == 0 {
		a.Lease = c.opt.Lease
	}
	a.Lease = wholeMillis(a.Lease)
	t, errs := c.opt.timing(a.Lease)
	errs = append(errs, c.checkKey(key)...)
	if a.MaxHold < 0 {
		errs = append(errs, badField("MaxHold", a.MaxHold, "0 (no limit) or more"))
	}
	errs = append(errs, badText("Reason", a.Reason, maxLabelBytes)...)
	errs = append(errs, c.checkData(key, a.Data)...)
	return t, invalid(errs)
}

// checkKey says what is wrong with a key.
func (c *Client) checkKey(key string) []error {
	if !utf8.ValidString(key) {
		return []error{fmt.Errorf("key is %q, allowed: valid UTF-8", key)}
	}
	if n := len(c.opt.Namespace) + len(key); key == "" || n > maxPartitionKeyBytes {
		return []error{fmt.Errorf("key has %d bytes (%d with its namespace), allowed: 1 to %d with its namespace", len(key),
			n, maxPartitionKeyBytes)}
	}
	return nil
}

// checkData says whether data would push the item over DynamoDB's limit.
func (c *Client) checkData(key string, data []byte) []error {
	if limit := maxItemBytes - c.overhead(key); len(data) > limit {
		return []error{fmt.Errorf(
			"Data has %d bytes, allowed: 0 to %d (a DynamoDB item has at most 400 KB, this one %d without its data)", len(data),
			limit, c.overhead(key))}
	}
	return nil
}

// apply sets options; a nil function sets none.
func apply[T any](o *T, optFns []func(*T)) {
	for _, f := range optFns {
		if f != nil {
			f(o)
		}
	}
}

func badField(field string, value any, allowed string) error {
	return fmt.Errorf("%s is %v, allowed: %s", field, value, allowed)
}

// badText refuses a text that is too long, or would be changed on the wire.
func badText(field, value string, most int) []error {
	var errs []error
	if len(value) > most {
		errs = append(errs, badLength(field, value, 0, most))
	}
	if !utf8.ValidString(value) {
		errs = append(errs, fmt.Errorf("%s is %q, allowed: valid UTF-8", field, value))
	}
	return errs
}

func badLength(field, value string, low, high int) error {
	return fmt.Errorf("%s has %d bytes, allowed: %d to %d", field, len(value), low, high)
}

// invalid joins errors into one that matches ErrInvalid; nil if there are none.
func invalid(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	all := make([]error, len(errs))
	for i, err := range errs {
		all[i] = err
		if bad, ok := err.(*invalidError); ok { //nolint:errorlint // exactly what this function returned
			all[i] = bad.problems
		}
	}
	return &invalidError{errors.Join(all...)}
}
