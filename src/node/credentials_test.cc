#include "node/credentials.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace duet::node {
namespace {

class Credentials : public testing::Test {
 protected:
  Credentials()
      : path_(std::filesystem::path(testing::TempDir()) /
              ("duet_secret_" + std::to_string(::getpid()))) {}
  ~Credentials() override { std::filesystem::remove(path_); }

  Result<interconnect::ClusterSecret> load(std::size_t size, mode_t mode) {
    std::ofstream(path_, std::ios::binary) << std::string(size, 's');
    EXPECT_EQ(::chmod(path_.c_str(), mode), 0);
    return load_secret(path_.string());
  }
  // Every refusal names the file.
  void expect_refused(const Result<interconnect::ClusterSecret>& r, ErrorCode code) {
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, code);
    EXPECT_NE(r.error().message.find(path_.string()), std::string::npos) << r.error().message;
  }
  std::filesystem::path path_;
};

TEST_F(Credentials, AGoodSecretIsRead) {
  auto secret = load(interconnect::min_secret_size, 0600);
  ASSERT_TRUE(secret);
  EXPECT_EQ(*secret, interconnect::ClusterSecret(interconnect::min_secret_size, std::byte{'s'}));
  EXPECT_TRUE(load(interconnect::max_secret_size, 0400));
}

TEST_F(Credentials, AMissingSecretSaysHowToMakeOne) {
  auto secret = load_secret(path_.string());
  expect_refused(secret, ErrorCode::not_found);
  EXPECT_NE(secret.error().message.find("/dev/urandom"), std::string::npos);
}

TEST_F(Credentials, SizesOutOfBoundsAreInvalid) {
  expect_refused(load(0, 0600), ErrorCode::invalid);
  expect_refused(load(interconnect::min_secret_size - 1, 0600), ErrorCode::invalid);
  expect_refused(load(interconnect::max_secret_size + 1, 0600), ErrorCode::invalid);
}

TEST_F(Credentials, ASecretThatOthersCanReachIsRefused) {
  for (mode_t mode : {0604, 0640, 0602, 0620, 0610, 0601, 0666}) {
    auto secret = load(32, mode);
    expect_refused(secret, ErrorCode::refused);
    EXPECT_NE(secret.error().message.find("chmod 600"), std::string::npos);
  }
}

TEST_F(Credentials, WhoWeAreOnTheInterconnect) {
  Config config;
  config.cluster = ClusterId(7);
  config.self = NodeId(2);
  auto secret = load(32, 0600);
  ASSERT_TRUE(secret);
  auto self = interconnect_self(config, BootNonce(9), *secret);
  EXPECT_EQ(self.cluster, ClusterId(7));
  EXPECT_EQ(self.node, NodeId(2));
  EXPECT_EQ(self.nonce, BootNonce(9));
  EXPECT_EQ(self.secret, *secret);
}

}  // namespace
}  // namespace duet::node
