package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/dynalock/dynalock/dynalock"
	"github.com/dynalock/dynalock/dynalock/dynalocktest"
)

const defaultTable = "dynalock-quickstart"

// stage is the table that the story plays on.
type stage struct {
	where, table string
	connect      func(worker string) *dynamodb.Client
	embedded     *dynalocktest.Server // nil on a real one
	close        func()
}

func openStage(ctx context.Context, endpoint, table string) (*stage, error) {
	if endpoint == "" && table == "" {
		srv := dynalocktest.NewServer(func(o *dynalocktest.ServerOptions) { o.Latency = 5 * time.Millisecond })
		return &stage{
			where: "an embedded server with a round trip of 5ms", table: defaultTable,
			connect: srv.ClientFor, embedded: srv, close: srv.Close,
		}, nil
	}
	s := &stage{table: table, close: func() {}}
	if s.table == "" {
		s.table = defaultTable
	}
	u, err := url.Parse(endpoint)
	if err != nil || endpoint != "" && u.Host == "" {
		return nil, fmt.Errorf("-endpoint %q is not a URL such as http://localhost:8000", endpoint)
	}
	local := isLoopback(u.Hostname())
	cfg, err := config.LoadDefaultConfig(ctx, func(o *config.LoadOptions) error {
		if local {
			o.EC2IMDSClientEnableState = imds.ClientDisabled // a server on this machine is not worth a question to the network
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if local {
		localDefaults(ctx, &cfg)
	}
	if cfg.Region == "" {
		return nil, errors.New("no Region is configured: set AWS_REGION or a Region in the profile")
	}
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		// its connections cannot be closed, those of this one can
		transport := client.GetTransport()
		cfg.HTTPClient = &http.Client{Transport: transport}
		s.close = transport.CloseIdleConnections
	}
	s.where = fmt.Sprintf("AWS in %s, table %q", cfg.Region, s.table)
	if endpoint != "" {
		cfg.BaseEndpoint = &endpoint
		s.where = fmt.Sprintf("%s, table %q", endpoint, s.table)
	}
	db := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.DisableValidateResponseChecksum = local // DynamoDB Local sends none with its errors, and the SDK warns of each
	})
	s.connect = func(string) *dynamodb.Client { return db }
	return s, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// localDefaults fills in what a server on this machine does not look at, and the SDK insists on.
func localDefaults(ctx context.Context, cfg *aws.Config) {
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local"}, nil
		})
	}
}

// prepareTable creates the table if it is missing, and refuses one that locks cannot work on.
func (s *stage) prepareTable(ctx context.Context) (created bool, err error) {
	db := s.connect("setup")
	findings, err := dynalock.CheckTable(ctx, db, s.table)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return s.embedded == nil, dynalock.CreateTable(ctx, db, s.table)
	}
	for _, f := range findings {
		if f.Severity == dynalock.Fatal {
			err = errors.Join(err, errors.New(f.String()))
		}
	}
	return false, err
}
